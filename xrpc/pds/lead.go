package pds

import (
	"context"
	"slices"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/lease"
)

// The leases of servers that share a store.
const (
	leaseCrawl       = "crawl"
	leaseMaintenance = "maintenance"
)

// leadAgain is how long a job rests that has ended before its time.
const leadAgain = 10 * time.Second

// lead runs a job, on one node at a time, until the context ends or the server drains. The job
// runs until its own context ends; one that ends before is begun again. What it writes goes through
// its term.
func (s *Server) lead(ctx context.Context, name string, job func(ctx context.Context, t term)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.node.drain, cancel)()
	begin := func(ctx context.Context, h *lease.Held) error {
		job(ctx, term{s.cfg.Store.KV, h})
		return nil
	}
	if s.cfg.Node.Shared {
		l, err := lease.New(lease.Config{
			KV: s.cfg.Store.KV, Name: name, Holder: s.cfg.Node.ID, Term: s.cfg.Node.Lease,
			Changed: func(held bool) { s.leads(name, held) },
			Failed:  func(err error) { s.log.Warn("a lease", "lease", name, "err", err) },
		})
		if err != nil {
			s.log.Error("a lease", "lease", name, "err", err) // cannot be: the configuration was checked
			return
		}
		inner := begin
		begin = func(ctx context.Context, _ *lease.Held) error { return l.Run(ctx, inner) }
	}
	for {
		_ = begin(ctx, nil) // that of the context
		if sleep.For(ctx, leadAgain) != nil {
			return
		}
	}
}

// term is a time for which a node leads.
type term struct {
	kv   storage.KV
	held *lease.Held // nil: the server is alone
}

// write is KV.Write, which fails with lease.ErrLost if another node leads by now.
func (t term) write(ctx context.Context, fn func(storage.KVTx) error) error {
	return t.kv.Write(ctx, func(tx storage.KVTx) error {
		if t.held != nil {
			if err := t.held.Check(ctx, tx); err != nil {
				return err
			}
		}
		return fn(tx)
	})
}

// leads notes that this node leads, or no longer does.
func (s *Server) leads(name string, held bool) {
	n := &s.node
	n.mu.Lock()
	if held {
		n.leads[name] = true
	} else {
		delete(n.leads, name)
	}
	n.mu.Unlock()
	n.beatNow()
	s.log.Info("a lease", "lease", name, "held", held)
	if s.cfg.Hooks.Leads != nil {
		s.cfg.Hooks.Leads(name, held)
	}
}

// leading are the names of the leases that this node holds.
func (n *node) leading() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]string, 0, len(n.leads))
	for name := range n.leads {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
