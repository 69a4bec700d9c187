package relay

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// takendown is the status of an account that Takedown was called for.
const takendown = "takendown"

// Takedown stops passing on anything of an account. An #account message announces it, and earlier
// events of the account are removed from the log. It is idempotent.
func (r *Relay) Takedown(ctx context.Context, did syntax.DID) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	if _, err := syntax.ParseDID(string(did)); err != nil {
		return err
	}
	return r.removeAccount(ctx, did, &tombstone{Status: takendown, Local: true}, nil)
}

// Restore ends a takedown. An #account message announces it. Then the account is repaired: its
// host's signed head is fetched and announced.
func (r *Relay) Restore(ctx context.Context, did syntax.DID) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	for {
		a, err := r.account(ctx, did)
		if err != nil {
			return err
		}
		if a.tombstone == nil || !a.tombstone.Local {
			return nil
		}
		c := r.change(a)
		c.to.tombstone = nil
		if c.to.state.Upstream != commit.Deleted {
			c.to.state.Desync = true
			c.message(&commit.Account{DID: did, Active: a.state.Upstream == "", Status: a.state.Upstream, Time: r.Now()})
		}
		// The row goes last: before that, the account is taken down, and this can be done again.
		if err := c.apply(ctx); changed(err) {
			continue
		} else if err != nil {
			return err
		}
		err = r.ledger.unmark(ctx, keyGone+string(did))
		r.cache.drop(did)
		if err != nil {
			return err
		}
		r.lookAt(did, a.state.Host)
		return nil
	}
}

// Takedowns returns up to limit accounts that are taken down, with DIDs greater than after, in DID
// order.
func (r *Relay) Takedowns(ctx context.Context, after syntax.DID, limit int) (list []syntax.DID, err error) {
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	for len(list) < limit {
		page, err := r.ledger.page(ctx, keyGone, string(after), limit)
		if err != nil {
			return nil, err
		}
		for _, pair := range page {
			after = syntax.DID(pair.Key)
			var row tombstone
			if exactjson.Unmarshal(pair.Value, &row) == nil && row.Local && len(list) < limit {
				list = append(list, after)
			}
		}
		if len(page) < limit {
			break
		}
	}
	return list, nil
}

// removeAccount deletes an account's head and events, and keeps what must be known of it. The row
// is written first, so that a process that dies half way goes on with it when it starts again.
// event, if not nil, tells of it; else the relay makes one.
func (r *Relay) removeAccount(ctx context.Context, did syntax.DID, row *tombstone, event *storage.Event) error {
	if event == nil {
		m := &commit.Account{DID: did, Status: row.Status, Time: r.Now()}
		event = &storage.Event{DID: did, Kind: m.Kind(), Time: r.Now(), Payload: m.Payload()}
	}
	r.cache.drop(did)
	a, err := r.account(ctx, did)
	if err != nil {
		return err
	}
	r.cache.drop(did)
	if a.tombstone != nil && a.tombstone.Local && row.Local && !a.tombstone.Pending {
		return nil
	}
	at := max(a.state.AccountAt, row.State.AccountAt)
	row.State, row.At, row.Pending = a.state, r.Now().UTC(), true
	row.State.AccountAt = at
	row.State.Desync, row.State.Described = false, false
	if a.head.Rev != "" {
		row.State.Rev = a.head.Rev
	}
	if !row.Local { // if it comes back, it is counted again
		row.From, row.State.Host, row.State.Upstream = a.state.Host, "", row.Status
		if a.tombstone != nil && row.From == "" {
			row.From = a.tombstone.From // this was begun before
		}
	}
	if err := r.writeTombstone(ctx, did, row); err != nil {
		return err
	}
	return r.finishRemoval(ctx, did, row, event, a)
}

// event is the event that passes a message on.
func (r *Relay) event(did syntax.DID, it *item) *storage.Event {
	return &storage.Event{DID: did, Kind: it.kind, Time: r.Now(), Payload: it.payload}
}

func (r *Relay) writeTombstone(ctx context.Context, did syntax.DID, row *tombstone) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return r.ledger.mark(ctx, map[string][]byte{keyGone + string(did): text})
}

// finishRemoval does what is left to do after the row was written. a is the account before, if it
// is known.
func (r *Relay) finishRemoval(ctx context.Context, did syntax.DID, row *tombstone, event *storage.Event, a *account) error {
	text, err := json.Marshal(row.State)
	if err != nil {
		return err
	}
	defer r.cache.drop(did)
	said := int64(0) // the number of the event
	for {
		events := []storage.Event{*event}
		if said, err = r.Store.Repos.Delete(ctx, did, events); err == nil {
			events = nil
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		// Whoever has read the account before this step now fails with a conflict.
		seq, err := r.Store.Repos.Apply(ctx, did, &storage.Change{
			Checks: []storage.KVCheck{{Key: keyState}}, KV: []storage.KVWrite{{Key: keyState, Value: text}}, Events: events,
		})
		if changed(err) {
			continue // it has come in between
		} else if err != nil {
			return err
		}
		if events != nil {
			said = seq
		}
		break
	}
	r.outbox.Forget(did, said)
	rows := []string{keyWork + string(did)}
	if a != nil {
		for name := range a.collections {
			rows = append(rows, keyCollection+string(name)+"/"+string(did))
		}
	}
	if !row.Local {
		if _, counts, err := r.ledger.enrol(ctx, did, row.From, "", -1); err != nil {
			return err
		} else {
			r.counted(counts)
		}
		return r.ledger.unmark(ctx, append(rows, keyGone+string(did))...)
	}
	row.Pending = false
	if err := r.writeTombstone(ctx, did, row); err != nil {
		return err
	}
	return r.ledger.unmark(ctx, rows...)
}

// resume looks, now and then, at accounts that wait to be repaired.
func (r *Relay) resume(ctx context.Context) {
	const every, page = time.Minute, 5000
	for after := ""; ; {
		list, err := r.ledger.page(ctx, keyWork, after, page)
		if err != nil && ctx.Err() == nil {
			r.Logger.Error("relay: accounts to be repaired cannot be listed", "err", err)
		}
		for _, pair := range list {
			after = pair.Key
			r.lookAt(syntax.DID(pair.Key), string(pair.Value))
		}
		if len(list) < page {
			after = ""
		}
		if sleep.For(ctx, every) != nil {
			return
		}
	}
}

// finishRemovals goes on with deletions that were begun.
func (r *Relay) finishRemovals(ctx context.Context) error {
	for after := ""; ; {
		list, err := r.ledger.page(ctx, keyGone, after, 500)
		if err != nil {
			return err
		}
		for _, pair := range list {
			after = pair.Key
			did, row := syntax.DID(pair.Key), tombstone{}
			if err := exactjson.Unmarshal(pair.Value, &row); err != nil || !row.Pending {
				continue
			}
			m := &commit.Account{DID: did, Status: row.Status, Time: r.Now()}
			event := &storage.Event{DID: did, Kind: m.Kind(), Time: r.Now(), Payload: m.Payload()}
			if err := r.finishRemoval(ctx, did, &row, event, nil); err != nil {
				return err
			}
		}
		if len(list) < 500 {
			return nil
		}
	}
}

// lookAt has an account looked at by the host that it is of, or by a relay.
func (r *Relay) lookAt(did syntax.DID, hostname string) {
	hostname = strings.ToLower(hostname)
	r.mu.Lock()
	h := r.hosts[hostname]
	if h == nil || !h.started {
		for _, other := range r.hosts {
			if other.started && other.isRelay() {
				h = other
				break
			}
		}
	}
	r.mu.Unlock()
	if h != nil {
		h.queue.schedule(did)
	}
}
