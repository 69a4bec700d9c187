package relay

import (
	"context"
	"crypto/rand"
	"iter"
	"net/url"

	"github.com/pdskit/pdskit/internal/paging"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// compare looks through the repositories that the host lists, in the background, and repairs those
// whose revision is not the one that is known. What was not finished is done when the relay runs
// again: the messages that were missed do not come again.
func (h *host) compare(ctx context.Context) error {
	err := h.r.ledger.write(ctx, func(tx storage.KVTx) error { return set(ctx, tx, keyCompare+h.name, rand.Text()) })
	if err == nil {
		h.startComparing()
	}
	return err
}

// startComparing carries out what compare was asked for.
func (h *host) startComparing() {
	h.comparing.start(h.r, func(ctx context.Context) {
		for try := 0; ; try++ {
			err := h.compareAsked(ctx)
			if err == nil || sleep.For(ctx, backoff(try, holdLeast, repairMost)) != nil {
				return
			}
			h.note(err)
		}
	})
}

func (h *host) compareAsked(ctx context.Context) error {
	request, found, err := h.r.ledger.toCompare(ctx, h.name)
	if err != nil || !found {
		return err
	}
	if err := h.compareAll(ctx); err != nil {
		return err
	}
	return h.r.ledger.compared(ctx, h.name, request)
}

// listed is an account that a host lists.
type listed struct {
	did      syntax.DID
	rev      syntax.TID
	inactive bool
}

// listedMost bounds how many accounts of a host's list are looked at, beside those that it may
// have.
const listedMost = 10_000

func (h *host) compareAll(ctx context.Context) error {
	left := h.limits().Accounts
	if left >= 0 {
		left = left*11 + listedMost // with those that are throttled
	}
	for l, err := range h.list(ctx) {
		if err != nil {
			return err
		}
		if left--; left == -1 {
			return nil // it has no end, or is not about the host's accounts
		}
		a, err := h.r.account(ctx, l.did)
		if err != nil {
			return err
		}
		here := a.state.Host == h.name && !a.state.Unlisted
		switch {
		case a.state.Desync || a.tombstone != nil || here && a.state.Throttled:
			continue
		case l.inactive: // a message may be missing that says so
			if !here || !a.exists || a.state.Upstream != "" {
				continue
			}
		case here && a.head.Rev == l.rev:
			continue
		}
		c := h.r.change(a)
		if !here {
			// Only the document says whose account it is. The host may list what it likes.
			if !h.mayRefresh(ctx) {
				return ctx.Err()
			}
			w, err := h.r.resolve(ctx, l.did, nil)
			if err == nil && w.host != h.name { // it may have moved here
				w, _, err = h.r.resolveAnew(ctx, l.did, w)
			}
			if err != nil || w.host != h.name {
				continue
			}
			c.to.identity = w
			if o, ok := h.enrol(ctx, c); !ok {
				if o.hold != nil {
					return o.hold
				}
				continue
			}
			h.refund()
		}
		c.to.state.Desync = !c.to.state.Throttled
		if err := c.apply(ctx); changed(err) {
			continue // a message has come
		} else if err != nil {
			return err
		}
		if c.to.state.Desync {
			h.queue.schedule(l.did)
		}
	}
	return nil
}

// list yields the accounts of the host.
func (h *host) list(ctx context.Context) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		if store := h.store.Load(); store != nil {
			for info, err := range store.Repos.List(ctx, "") {
				if err == nil && info.Head.Rev == "" {
					continue
				}
				if !yield(listed{did: info.DID, rev: info.Head.Rev}, err) || err != nil {
					return
				}
			}
			return
		}
		err := paging.Each(ctx, func(ctx context.Context, cursor string) (string, int, error) {
			params := url.Values{"limit": {"1000"}}
			if cursor != "" {
				params.Set("cursor", cursor)
			}
			var page api.SyncListReposOutput
			if err := h.r.fetchJSON(ctx, h.name, api.SyncListReposNSID, params, &page); err != nil {
				return "", 0, err
			}
			for _, repo := range page.Repos {
				did, err := syntax.ParseDID(string(repo.DID))
				if err != nil {
					continue
				}
				if !yield(listed{did, repo.Rev, repo.Active != nil && !*repo.Active}, nil) {
					return "", 0, nil // enough
				}
			}
			return page.Cursor, len(page.Repos), nil
		})
		if err != nil {
			yield(listed{}, err)
		}
	}
}

// catchUp gives the accounts of a host that were throttled their place, as far as there is room
// now.
func (r *Relay) catchUp(ctx context.Context, h *host) error {
	lost := false
	for after := ""; ; {
		page, err := r.ledger.page(ctx, keyMember+h.name+"/", after, 500)
		if err != nil {
			return err
		}
		for _, pair := range page {
			after = pair.Key
			if member(pair.Value) != throttled {
				continue
			}
			if full, err := r.admitThrottled(ctx, h, syntax.DID(pair.Key)); err != nil || full {
				return err
			}
		}
		if len(page) < 500 {
			break
		}
	}
	h.mu.Lock()
	lost = h.row.count.Lost
	h.mu.Unlock()
	if lost {
		return r.Compare(ctx, h.name)
	}
	return nil
}

// admitThrottled gives one account its place.
func (r *Relay) admitThrottled(ctx context.Context, h *host, did syntax.DID) (full bool, err error) {
	for {
		a, err := r.account(ctx, did)
		if err != nil {
			return false, err
		}
		if !a.state.Throttled || a.state.Host != h.name {
			return false, nil
		}
		c := r.change(a)
		o, ok := h.enrol(ctx, c)
		if o.hold != nil {
			return false, o.hold
		}
		if !ok || c.to.state.Throttled {
			return true, nil
		}
		c.to.state.Upstream = a.state.Upstream
		c.to.state.Desync = true
		c.message(accountMessage(&c.to, r))
		if err := c.apply(ctx); changed(err) {
			continue
		} else if err != nil {
			return false, err
		}
		h.queue.schedule(did)
		return false, nil
	}
}
