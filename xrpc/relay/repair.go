package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// repairTimeout bounds the requests of one repair.
const repairTimeout = time.Minute

// errBehind: the host has an older revision than the relay.
var errBehind = errors.New("relay: the host has an older revision than it had")

// errCrowded: the host is asked for as much as it may be at a time.
var errCrowded = errors.New("relay: too many requests to the host are under way")

// maintain repairs the account if that is due and wanted. Messages do not wait for the collections
// of their account: those are asked for when the lane has nothing else to do.
func (b *batch) maintain(ctx context.Context, wanted bool) error {
	l, r := b.lane, b.h.r
	if !wanted {
		return nil
	}
	if !r.pending(b.c.from) {
		if !l.repairAt.IsZero() || l.wasDue {
			l.repairAt, l.repairFailures, l.wasDue = time.Time{}, 0, false
			return r.ledger.unmark(ctx, keyWork+string(l.did))
		}
		return nil
	}
	now := r.Now()
	switch {
	case now.Before(l.repairAt) && l.repairAt.Sub(now) <= repairMost: // else the clock went back
		return nil
	case r.repairs.doneWithin(string(l.did), now, repairLeast) && l.repairFailures == 0:
		l.repairAt = now.Add(repairLeast)
		return nil
	}
	err := r.repair(ctx, b.h, b.c)
	switch {
	case errors.Is(err, errCrowded):
		l.repairAt = now.Add(time.Second + rand.N(time.Second))
	case err == nil:
		l.repairAt, l.repairFailures, l.wasDue = time.Time{}, 0, false
		if err := r.ledger.unmark(ctx, keyWork+string(l.did)); err != nil {
			return err
		}
	case ctx.Err() != nil || changed(err):
		return err
	default:
		b.h.note(err)
		r.Logger.Info("relay: an account was not repaired", "host", b.h.name, "did", string(l.did), "err", err)
		l.repairAt = r.Now().Add(backoff(l.repairFailures, repairLeast, repairMost))
		l.repairFailures++
	}
	return b.load(ctx)
}

// repair fetches the signed head of a desynchronized account, and the collections of one whose
// history is not known.
func (r *Relay) repair(ctx context.Context, from *host, c *change) error {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	a := &c.to
	w, err := r.resolve(ctx, a.did, a.identity)
	if err != nil {
		return err
	}
	if w.host == "" {
		return fmt.Errorf("relay: the document of %s names no host", a.did)
	}
	if r.banned(w.host) != nil {
		return fmt.Errorf("%w: %s", ErrBanned, w.host)
	}
	a.identity = w
	if h := r.host(w.host); h != nil {
		if !h.isRelay() && (a.state.Host != w.host || a.state.Unlisted) {
			if o, ok := h.enrol(ctx, c); !ok {
				if o.hold != nil {
					return o.hold
				}
				a.state.Desync = false // the host has too many; another message will tell
				return c.apply(ctx)
			}
		}
		from = h
	}
	select {
	case from.fetches <- struct{}{}:
		defer func() { <-from.fetches }()
	default:
		return errCrowded
	}
	if a.state.Desync {
		if err := r.refetch(ctx, c); err != nil {
			return err
		}
	}
	if r.pending(a) {
		if err := r.describe(ctx, c); err != nil {
			r.Logger.Debug("relay: the collections of an account are not known", "did", string(a.did), "err", err)
			if e := c.apply(ctx); e != nil {
				return e
			}
			return err
		}
	}
	return c.apply(ctx)
}

// refetch brings the head of an account to what its host has signed.
func (r *Relay) refetch(ctx context.Context, c *change) error {
	a := &c.to
	head, status, err := r.fetch(ctx, c)
	if err != nil {
		return err
	}
	if status != "" {
		a.state.Desync = false
		if status == a.state.Upstream {
			return nil
		}
		a.state.Upstream = status
		c.message(&commit.Account{DID: a.did, Status: status, Time: r.Now()})
		return nil
	}
	// The signature is checked by itself first, so that what is older is known to be the host's.
	next, err := r.verifier(r.key(c)).Sync(ctx, commit.State{}, head)
	if err != nil {
		return err
	}
	last := a.last()
	switch {
	case next.Rev < last.Rev, next.Rev == last.Rev && next.Data != last.Data && last.Data.Defined():
		return fmt.Errorf("%w: %s after %s", errBehind, next.Rev, last.Rev)
	case next != last:
		a.head = storage.Head{Commit: head.Commit.CID, Data: next.Data, Rev: next.Rev}
		a.state.Described, a.state.Rev = false, ""
		c.commit = head.Commit.Data
	}
	a.state.Desync = false
	if a.state.Upstream != "" && a.state.Upstream != commit.Deleted && r.local(a.identity.host) == nil {
		a.state.Upstream = "" // a host gives the repositories of active accounts only
		if !a.state.Throttled {
			c.message(accountMessage(a, r))
		}
	}
	if !a.state.Throttled && a.state.Upstream == "" {
		c.message(head)
	}
	return nil
}

// fetch returns what the host of an account has signed last, not verified yet; or its status there,
// if it is not active.
func (r *Relay) fetch(ctx context.Context, c *change) (head *commit.Sync, status string, err error) {
	a := &c.to
	if store := r.local(a.identity.host); store != nil {
		return r.fetchStore(ctx, store, a.did)
	}
	head, status, err = r.fetchRepo(ctx, a.did, a.identity.host, a.head.Rev)
	if a.head.Rev != "" && errors.Is(err, commit.ErrRepo) {
		// If nothing has changed since, there may be no block at all.
		head, status, err = r.fetchRepo(ctx, a.did, a.identity.host, "")
	}
	return head, status, err
}

// fetchRepo fetches a repository from its host, or what of it is newer than a revision, and reads
// the commit.
func (r *Relay) fetchRepo(ctx context.Context, did syntax.DID, host string, since syntax.TID) (head *commit.Sync, status string, err error) {
	params := url.Values{"did": {string(did)}}
	if since != "" {
		params.Set("since", string(since))
	}
	resp, err := r.get(ctx, host, api.SyncGetRepoNSID, params)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		name, err := answered(resp)
		switch name {
		case api.ErrorRepoTakendown:
			return nil, "takendown", nil
		case api.ErrorRepoSuspended:
			return nil, "suspended", nil
		case api.ErrorRepoDeactivated:
			return nil, "deactivated", nil
		}
		return nil, "", err
	}
	// Only the commit is read, which comes first.
	repo, err := commit.ReadRepo(io.LimitReader(resp.Body, maxMessage), commit.RepoOptions{DID: did})
	if err != nil {
		return nil, "", err
	}
	defer repo.Close()
	signed := repo.Commit()
	return &commit.Sync{DID: did, Rev: signed.Rev, Commit: car.Block{CID: repo.Root(), Data: signed.Encode()}, Time: r.Now()}, "", nil
}

// local returns the store of a host in the same process; nil of any other.
func (r *Relay) local(name string) *storage.Store {
	if h := r.host(name); h != nil {
		return h.store.Load()
	}
	return nil
}

// fetchStore is fetch for a host in the same process.
func (r *Relay) fetchStore(ctx context.Context, store *storage.Store, did syntax.DID) (head *commit.Sync, status string, err error) {
	err = store.Repos.View(ctx, did, func(v storage.Reader) error {
		block, err := v.Commit(ctx)
		if err == nil {
			head = &commit.Sync{DID: did, Rev: v.Head().Rev, Commit: car.Block{CID: v.Head().Commit, Data: block}, Time: r.Now()}
		}
		return err
	})
	if errors.Is(err, storage.ErrNotFound) { // which means something else to the callers
		err = errors.New("relay: the local host has no repository " + string(did))
	}
	return head, "", err
}

// answered returns the name of the error that a host has answered with, and an error that tells it.
func answered(resp *http.Response) (name string, err error) {
	var e struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)); err == nil {
		exactjson.UnmarshalPlain(text, &e) // what is not JSON has no name
	}
	return e.Error, fmt.Errorf("relay: %s answered with %d %.100q %.200q", resp.Request.URL.Host, resp.StatusCode, e.Error, e.Message)
}

// fetchJSON makes a request and reads its answer.
func (r *Relay) fetchJSON(ctx context.Context, host, method string, params url.Values, to any) error {
	resp, err := r.get(ctx, host, method, params)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readAnswer(resp, to)
}

// readAnswer reads the JSON that a host has answered with.
func readAnswer(resp *http.Response, to any) error {
	if resp.StatusCode != http.StatusOK {
		_, err := answered(resp)
		return err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	return exactjson.UnmarshalPlain(text, to)
}
