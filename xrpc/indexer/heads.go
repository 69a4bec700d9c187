package indexer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// checkedName names the position that says when accounts were last compared with their hosts.
const checkedName = "checked"

// relistEvery is the time between two lists; negative: there is none but the first.
func (r *run) relistEvery() time.Duration {
	if r.Relist == 0 {
		return 24 * time.Hour
	}
	return r.Relist
}

// checkHeads compares the accounts that no list has with their hosts, once in a while: an event
// that was lost need not be followed by another one. It asks each host for the newest commit only,
// and at random times.
func (r *run) checkHeads(ctx context.Context) {
	every := r.relistEvery()
	if every < 0 {
		return
	}
	for {
		var text string
		if persist(ctx, r.sinkFailed, func() (err error) {
			text, err = r.Sink.Position(ctx, checkedName)
			return err
		}) != nil {
			return
		}
		now := r.Now()
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
			// A clock that was set back does not make it wait for longer.
			if wait := min(time.Unix(seconds, 0).Add(every).Sub(now), every); sleep.For(ctx, wait) != nil {
				return
			}
			if r.eachAccount(ctx, r.unchecked(every), func(d *draft) { d.dueAgain(r.Now().Add(rand.N(every/2 + 1))) }) != nil {
				return
			}
			now = r.Now()
		}
		at := map[string]string{checkedName: strconv.FormatInt(now.Unix(), 10)}
		if persist(ctx, r.sinkFailed, func() error { return r.w.submit(ctx, nil, at) }) != nil {
			return
		}
	}
}

// maxDue is longer than anything waits. What is due later was stored while the clock was wrong.
const maxDue = 25 * time.Hour

// unchecked returns which accounts are to be compared.
func (r *run) unchecked(every time.Duration) func(a *Account) bool {
	sc := r.scope.Load()
	return func(a *Account) bool {
		now := r.Now()
		switch {
		case !a.Due.IsZero():
			return a.Due.After(now.Add(max(maxDue, every)))
		case !sc.wants(a) || a.Status == commit.Deleted:
			return false
		case !a.Active: // an event that it is back may have been lost
			return true
		}
		recent := a.Read.After(now.Add(-every/2)) && !a.Read.After(now)
		return !sc.All && !recent // lists have the revisions of all
	}
}

// dueAgain sets when an account is read, whatever was set before.
func (d *draft) dueAgain(at time.Time) {
	d.a.Due = time.Time{}
	d.due(at)
}

// checkRelayStatus asks the relays for the status of an account: one may have taken it down itself,
// which nobody else says. It is asked only where an account is not as its relay may have said: one
// that is not active, or failed, or is looked at without a reason that the relay has given.
func (f *fetch) checkRelayStatus(ctx context.Context) error {
	a := &f.d.a
	if a.Active && a.Tries == 0 && a.State != Synchronized {
		return nil
	}
	for _, s := range f.sources {
		if s.Relay == "" {
			continue
		}
		limited, done := context.WithTimeout(ctx, relayTimeout)
		out, err := api.SyncGetRepoStatus(limited, &xrpc.Client{Host: s.url, HTTP: s.HTTP, Retries: -1}, api.SyncGetRepoStatusParams{DID: a.DID})
		done()
		var xerr *xrpc.Error
		switch {
		case err == nil:
			if name := withheldNames[out.Status]; !out.Active && name != "" {
				return fmt.Errorf("the relay %s withholds it: %w", s.url, &xrpc.Error{Status: 400, Name: name})
			}
		case !a.Active && (!errors.As(err, &xerr) || xerr.Status >= 500 && xerr.Status != 501 || xerr.Status == 429):
			return fmt.Errorf("the relay %s does not say whether the account is active: %w", s.url, err)
		}
	}
	return nil
}

// relayTimeout bounds the time for a relay's answer.
const relayTimeout = 10 * time.Second

// withheldNames are the statuses by which a relay withholds an account, and the errors that say the
// same. Of others, the account's host knows best.
var withheldNames = map[string]string{"takendown": "RepoTakendown", "suspended": "RepoSuspended"}
