package indexer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/paging"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// listWhenAsked lists the accounts of a source when that is asked for, and once in a while, until
// it succeeds.
func (s *source) listWhenAsked(ctx context.Context) {
	every := s.relistEvery()
	var hosts sync.WaitGroup
	defer hosts.Wait()
	stop := func() {} // the lists of hosts
	defer func() { stop() }()
	for ctx.Err() == nil {
		var again <-chan time.Time
		if every > 0 {
			t := time.NewTimer(every)
			defer t.Stop()
			again = t.C
		}
		select {
		case <-s.relist:
		case <-again:
		case <-ctx.Done():
			return
		}
		for tries := 1; ctx.Err() == nil; tries++ {
			s.mu.Lock()
			unsure, asked := s.mayHaveMissed, s.listRequests
			s.mu.Unlock()
			var err error
			if unsure {
				err = s.compareAll(ctx)
			}
			if err == nil {
				err = s.list(ctx)
			}
			if err == nil {
				s.mu.Lock()
				if s.listRequests == asked { // else another one is asked for meanwhile
					s.listed, s.mayHaveMissed = true, false
				}
				s.mu.Unlock()
				stop()
				hosts.Wait()
				limited, cancel := context.WithCancel(ctx)
				stop = cancel
				hosts.Go(func() { s.listHosts(limited) })
				break
			}
			if ctx.Err() == nil {
				s.Log.Warn("the accounts could not be listed", "source", s.name, "error", err)
			}
			wait := backoff(tries, time.Second, time.Hour)
			if xerr := (*xrpc.Error)(nil); errors.As(err, &xerr) {
				wait = max(wait, min(xerr.RetryAfter(s.Now()), maxAsked))
			}
			sleep.For(ctx, wait)
		}
	}
}

// listed is an account of a list.
type listed struct {
	did       syntax.DID
	rev       syntax.TID // empty: not known
	inactive  bool
	signaled  bool // it has a record of Scope.Signal, or may have
	confirmed bool // it has
}

// list adds all accounts of the source that are in the scope.
func (s *source) list(ctx context.Context) error {
	sc := s.run.scope.Load()
	if !sc.lists() {
		return nil
	}
	if s.url == "" {
		return s.listLocal(ctx, sc)
	}
	c := &xrpc.Client{Host: s.url, HTTP: s.HTTP}
	if sc.All {
		return s.listRepos(ctx, sc, c, false)
	}
	for _, collection := range sc.Signal {
		if !sc.signal.exact[collection] { // a prefix: only reading the repositories shows that
			return s.listRepos(ctx, sc, c, true)
		}
	}
	for _, collection := range sc.Signal {
		err := s.listByCollection(ctx, sc, c, syntax.NSID(collection))
		var xerr *xrpc.Error
		if errors.As(err, &xerr) && xerr.Status >= 400 && xerr.Status != http.StatusTooManyRequests && (xerr.Status < 500 || xerr.Status == 501) {
			return s.listRepos(ctx, sc, c, true) // a PDS need not have that method
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listHosts lists the accounts of the hosts of a relay, as relays need not list all that they pass
// on. It does so as well as it can: a host that fails is left out until the next time.
func (s *source) listHosts(ctx context.Context) {
	sc := s.run.scope.Load()
	if s.Relay == "" || !sc.All {
		return
	}
	c := &xrpc.Client{Host: s.url, HTTP: s.HTTP}
	var names []string
	err := paging.Each(ctx, func(ctx context.Context, cursor string) (string, int, error) {
		out, err := api.SyncListHosts(ctx, c, api.SyncListHostsParams{Limit: 200, Cursor: cursor})
		for _, h := range out.Hosts {
			if len(names) < maxHosts && (h.Status == "" || h.Status == "active" || h.Status == "idle") {
				names = append(names, h.Hostname)
			}
		}
		return out.Cursor, len(out.Hosts), err
	})
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, hostsAtOnce)
	for _, name := range names {
		at := url.URL{Scheme: "https", Host: name}
		if at.Hostname() == "localhost" || strings.HasPrefix(s.url, "http:") {
			at.Scheme = "http" // a network on this machine
		}
		c := &xrpc.Client{Host: at.String(), HTTP: s.Hosts, Retries: -1}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			ctx, done := context.WithTimeout(ctx, hostListTimeout)
			defer done()
			if err := s.listRepos(ctx, sc, c, false); err != nil {
				s.Log.Info("the accounts of a host could not be listed", "host", name, "error", err)
			}
		})
	}
	if err != nil && ctx.Err() == nil {
		s.Log.Info("the hosts could not be listed", "source", s.name, "error", err)
	}
}

// Limits on the lists of a relay's hosts: how many are read concurrently, and for how long each.
const (
	hostsAtOnce     = 8
	hostListTimeout = 2 * time.Hour
)

// maxHosts bounds how many hosts of a relay are asked.
const maxHosts = 100_000

func (s *source) listByCollection(ctx context.Context, sc *scope, c *xrpc.Client, collection syntax.NSID) error {
	return paging.Each(ctx, func(ctx context.Context, cursor string) (string, int, error) {
		out, err := api.SyncListReposByCollection(ctx, c, api.SyncListReposByCollectionParams{Collection: collection, Limit: 500, Cursor: cursor})
		if err != nil {
			return "", 0, err
		}
		list := make([]listed, len(out.Repos))
		for i, r := range out.Repos {
			list[i] = listed{did: r.DID, signaled: true, confirmed: true}
		}
		return out.Cursor, len(list), s.found(ctx, sc, list)
	})
}

func (s *source) listRepos(ctx context.Context, sc *scope, c *xrpc.Client, signaled bool) error {
	return paging.Each(ctx, func(ctx context.Context, cursor string) (string, int, error) {
		out, err := api.SyncListRepos(ctx, c, api.SyncListReposParams{Limit: 500, Cursor: cursor})
		if err != nil {
			return "", 0, err
		}
		list := make([]listed, len(out.Repos))
		for i, r := range out.Repos {
			list[i] = listed{did: r.DID, rev: r.Rev, signaled: signaled, inactive: r.Active != nil && !*r.Active}
		}
		return out.Cursor, len(list), s.found(ctx, sc, list)
	})
}

func (s *source) listLocal(ctx context.Context, sc *scope) error {
	if s.Local.Repos == nil {
		return nil
	}
	var list []listed
	flush := func() error {
		err := s.found(ctx, sc, list)
		list = list[:0]
		return err
	}
	for info, err := range s.Local.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		if info.Head == (storage.Head{}) {
			continue
		}
		list = append(list, listed{did: info.DID, rev: info.Head.Rev, signaled: !sc.All})
		if len(list) == 500 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// found takes a page of a list. Accounts that are new, or have another revision than the sink, are
// read.
func (s *source) found(ctx context.Context, sc *scope, list []listed) error {
	for _, x := range list {
		did, err := syntax.ParseDID(string(x.did))
		if err != nil {
			continue
		}
		s.lanes.do(did, func() {
			added := false
			err = s.update(ctx, did, func(d *draft) error {
				added = false
				a := &d.a
				if x.inactive { // there is nothing to read; whether that is true, its host says
					if a.Active && a.State == Synchronized {
						d.due(s.Now().Add(jitter(10 * time.Second)))
					}
					return nil
				}
				if a.Version == 0 {
					a.Signaled = x.signaled
					if added = sc.wants(a); added {
						s.add(d, sc, s)
					}
					return nil
				}
				if x.signaled && !a.Signaled && !sc.wants(a) {
					a.Signaled, d.changed = true, true
					if !x.confirmed { // reading it shows
						if a.State == Synchronized {
							a.State = Desynchronized
						}
						d.due(s.Now())
					}
				}
				if x.rev != "" && x.rev != a.Rev && a.Active && a.State == Synchronized && x.rev > a.Rev {
					d.due(s.Now().Add(jitter(10 * time.Second))) // unless its event comes until then
				}
				return nil
			})
			if added && err == nil {
				s.count.listed.Add(1)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// update changes an account as often as it takes.
func (r *run) update(ctx context.Context, did syntax.DID, f func(d *draft) error) error {
	for {
		d, err := r.draft(ctx, did)
		if err == nil {
			err = f(d)
		}
		if err != nil || !d.changed {
			return err
		}
		if err := r.store(ctx, d); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// compareAll has all accounts compared with their hosts of which events of a source may have been
// missed.
func (s *source) compareAll(ctx context.Context) error {
	return s.eachAccount(ctx, func(a *Account) bool {
		return (s.Host == "" || a.Host == "" || a.Host == s.url) && a.Status != commit.Deleted
	}, func(d *draft) { d.due(s.Now()) })
}

// eachAccount changes all accounts of a kind.
func (r *run) eachAccount(ctx context.Context, which func(a *Account) bool, f func(d *draft)) error {
	for after := syntax.DID(""); ; {
		var page []Account
		err := persist(ctx, r.sinkFailed, func() (err error) {
			page, err = r.Sink.Accounts(ctx, after, 500)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for i := range page {
			if after = page[i].DID; !which(&page[i]) {
				continue
			}
			var err error
			r.lanes.do(after, func() {
				err = persist(ctx, r.sinkFailed, func() error {
					return r.update(ctx, after, func(d *draft) error {
						if d.a.Version != 0 {
							f(d)
						}
						return nil
					})
				})
			})
			if err != nil {
				return err
			}
		}
	}
}

// scopeName names the position that says for which scope the accounts are.
const scopeName = "scope"

// sweepWhenAsked holds all accounts against the scope when that has changed.
func (r *run) sweepWhenAsked(ctx context.Context) {
	for {
		select {
		case <-r.swept:
		case <-ctx.Done():
			return
		}
		sc := r.next.Load()
		if sc != r.scope.Load() {
			at := r.startScope(sc)
			if persist(ctx, r.sinkFailed, func() error { return r.w.submit(ctx, nil, at) }) != nil {
				return
			}
			r.scope.Store(sc)
		}
		// It is carried through also if another scope is asked for meanwhile: events were dropped
		// because of this one.
		if err := r.sweep(ctx, sc, len(r.scopes) > 2); err != nil {
			return // the context has ended
		}
		r.scopes = []string{sc.text}
		// With it goes that the accounts of sources are to be listed.
		persist(ctx, r.sinkFailed, func() error {
			return r.storeNow(ctx, map[string]string{scopeName: sc.text})
		})
	}
}

// noScope stands for the scope of an index that is new.
const noScope = "-"

// startScope notes that events are going to be taken by a scope, before any is, and returns the
// position that says so: until the accounts were held against it, the scope before it and itself.
// If there are more, because that was broken off, it is not known which events an account is
// missing.
func (r *run) startScope(sc *scope) map[string]string {
	if len(r.scopes) == 0 {
		r.scopes = []string{r.scope.Load().text}
	}
	if r.scopes[len(r.scopes)-1] != sc.text {
		r.scopes = append(r.scopes, sc.text)
	}
	if n := len(r.scopes); n > 3 {
		r.scopes = append(r.scopes[:1:1], r.scopes[n-2:]...)
	}
	return map[string]string{scopeName: strings.Join(r.scopes, " ")}
}

// outside reports whether an account that was taken by a scope has to be read, as there is another
// one by now that has it otherwise.
func (r *run) outside(a *Account, by *scope) bool {
	sc := r.scope.Load()
	return sc != by && a.State != Removed && (!sc.wants(a) || a.Filter != sc.records.text)
}

// recheck has an account read that was stored while the scope was changed: those that are held
// against the new one may have been told apart before that.
func (r *run) recheck(ctx context.Context, a *Account, by *scope) {
	if !r.outside(a, by) {
		return
	}
	persist(ctx, r.sinkFailed, func() error {
		return r.update(ctx, a.DID, func(d *draft) error {
			if d.known() && r.outside(&d.a, by) {
				d.due(r.Now())
			}
			return nil
		})
	})
}

// sweep holds the accounts against a scope. all: each is to be compared with its host.
func (r *run) sweep(ctx context.Context, sc *scope, all bool) error {
	if sc.lists() {
		for _, s := range r.sources {
			s.mu.Lock()
			s.markIncomplete(false)
			connected := s.connected
			s.mu.Unlock()
			if connected {
				signal(s.relist)
			}
		}
	}
	for did := range sc.dids {
		var err error
		r.lanes.do(did, func() {
			err = persist(ctx, r.sinkFailed, func() error {
				return r.update(ctx, did, func(d *draft) error {
					if d.a.Version == 0 {
						r.add(d, sc, nil)
					}
					return nil
				})
			})
		})
		if err != nil {
			return err
		}
	}
	return r.eachAccount(ctx, func(a *Account) bool { return all || !sc.wants(a) || a.Filter != sc.records.text }, func(d *draft) {
		r.jobs.cancel(d.a.DID)
		d.due(r.Now())
	})
}
