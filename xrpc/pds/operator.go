package pds

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/pdskit/pdskit/internal/diskfull"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// Operator configures the pages of the administrator, at /admin. They require
// Secrets.AdminPassword.
type Operator struct {
	// Off removes the pages.
	Off bool
	// Sizes, if not nil, returns the sizes of files or databases. Their names are shown unchanged.
	Sizes func(ctx context.Context) []operator.Size
	// Backups returns the recent backups, latest first. Nil: those noted in the store; see
	// [operator.Backups].
	Backups func(ctx context.Context) ([]operator.Backup, error)
	// Doctor checks the server for problems. Nil: there is no page for it.
	Doctor operator.Doctor
	// BackupHelp is the command that makes a backup, as a text for the administrator.
	BackupHelp string
	// Change, if not nil, can change the configuration of the pages before they are made.
	Change func(c *operator.Config)
}

// openOperator mounts the pages of the administrator.
func (s *Server) openOperator() {
	cfg := &s.cfg
	if !withPages || cfg.Operator.Off || !s.Sessions.HasAdmin() {
		return
	}
	backups := cfg.Operator.Backups
	if backups == nil {
		backups = operator.Backups{KV: cfg.Store.KV}.List
	}
	c := operator.Config{
		Site: s.Site, KV: cfg.Store.KV, Passwords: s.Sessions, Audit: s.Audit,
		Admin:    func(who audit.Actor) operator.Admin { return s.Service.Administration(who) },
		Overview: s.overview, Events: cfg.Store.Events, Subscribers: s.Outbox,
		Backups: backups, BackupHelp: cfg.Operator.BackupHelp, Mail: s.Service.MailStats, Errors: s.Errors.List, Doctor: cfg.Operator.Doctor,
	}
	if s.crawler != nil {
		c.Relays = s.crawler
	}
	if cfg.Operator.Change != nil {
		cfg.Operator.Change(&c)
	}
	operator.New(c).Mount(s.Mux)
}

// overview is how the server is.
func (s *Server) overview(ctx context.Context) (o operator.Overview) {
	cfg := &s.cfg
	o = operator.Overview{Version: cfg.Version, Host: s.hostname(), DID: cfg.ServiceDID, Problem: s.problem(ctx), Started: s.started, Accounts: -1}
	if n, err := s.Accounts.Count(ctx); err == nil {
		o.Accounts = n
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	o.Memory = memory.Sys - memory.HeapReleased
	if cfg.Operator.Sizes != nil {
		o.Sizes = cfg.Operator.Sizes(ctx)
	}
	s.clock.mu.Lock()
	if r := s.clock.last; !r.Time.IsZero() {
		o.Clock = clockOf(r)
	}
	s.clock.mu.Unlock()
	last := s.lastFound(ctx)
	o.Statuses, o.CountedAt = last.Statuses, last.At
	if list, err := s.Nodes(ctx); err == nil && cfg.Node.Shared {
		o.Node = cfg.Node.ID
		for _, n := range list {
			o.Nodes = append(o.Nodes, operator.Node{
				ID: n.ID, Version: n.Version, Started: n.Started, Seen: n.Seen, Draining: n.Draining, Leads: n.Leads, Subscribers: n.Subscribers,
			})
		}
	}
	return o
}

// clockOf is what a check of the clock has found.
func clockOf(r timecheck.Result) *operator.Clock {
	c := &operator.Clock{Time: r.Time}
	if r.Err != nil {
		c.Problem = r.Err.Error()
	}
	var offsets []time.Duration
	for _, a := range r.Servers {
		if a.Err == nil {
			offsets = append(offsets, a.Offset)
		}
	}
	if c.Of = len(offsets); c.Of > 0 {
		slices.Sort(offsets)
		c.Offset = offsets[len(offsets)/2]
	}
	return c
}

// problem returns why the server does not work: whether its database can be read, and whether the
// store can be written. Empty: it works.
func (s *Server) problem(ctx context.Context) string {
	if _, _, err := s.cfg.Store.Events.Bounds(ctx); err != nil {
		return "The database cannot be read"
	}
	err := s.Writable(ctx)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, storage.ErrFull) || diskfull.Is(err):
		return "The disk is full: nothing can be written"
	}
	return "The store cannot be written"
}

// statusOf counts an account that is looked through. One that is not readable is left out.
func (s *Server) statusOf(ctx context.Context, did syntax.DID, p *pass) {
	if a, err := s.Accounts.ByDID(ctx, did); err == nil {
		p.statuses[a.Status()]++
	}
}
