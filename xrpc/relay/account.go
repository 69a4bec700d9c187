package relay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// state is what is stored of an account beside its head.
type state struct {
	// Host is the server that the account's DID document named when it was last fetched.
	Host string `json:"host,omitempty"`
	// Unlisted is set if a relay, and not Host, delivered the account. Then Host's count of
	// accounts does not include it.
	Unlisted bool `json:"unlisted,omitempty"`
	// Upstream is the status at Host; empty: active.
	Upstream string `json:"upstream,omitempty"`
	// Desync is set while nothing is passed on because the account must first be repaired.
	Desync bool `json:"desync,omitempty"`
	// Throttled is set if Host has too many accounts.
	Throttled bool `json:"throttled,omitempty"`
	// Described is set once all collections of the account are known.
	Described bool `json:"described,omitempty"`
	// Rev is the last revision of a deleted account.
	Rev syntax.TID `json:"rev,omitempty"`
	// AccountAt and IdentityAt are the times, in milliseconds, of the last #account and #identity
	// messages that another relay delivered.
	AccountAt  int64 `json:"accountAt,omitempty"`
	IdentityAt int64 `json:"identityAt,omitempty"`
}

// account is what the relay knows of an account. A value that others can see does not change.
type account struct {
	did         syntax.DID
	exists      bool // in the store
	head        storage.Head
	state       state
	text        []byte // of the state, as it is stored; nil: it is not
	tombstone   *tombstone
	collections map[syntax.NSID]bool // the collections that are known to have records

	identity *accountIdentity // nil: not resolved yet
}

// accountIdentity is what a DID document says. It does not change.
type accountIdentity struct {
	doc  *identity.Document
	host string // of the PDS; empty: none that can be used
	key  *crypto.PublicKey
	err  error // instead of a key
}

// last is what the next commit must follow.
func (a *account) last() commit.State {
	if a.head.Rev == "" {
		return commit.State{Rev: a.state.Rev} // of one that was deleted
	}
	return commit.State{Rev: a.head.Rev, Data: a.head.Data}
}

// maxCollections bounds how many collections of one account are in the index.
const maxCollections = 1000

// account returns an account as it is in the cache or the store.
func (r *Relay) account(ctx context.Context, did syntax.DID) (*account, error) {
	if a := r.cache.get(did); a != nil {
		return a, nil
	}
	drops := r.cache.dropped()
	a := &account{did: did}
	err := r.Store.Repos.View(ctx, did, func(v storage.Reader) error {
		a.exists, a.head, a.collections = true, v.Head(), nil
		text, err := v.Get(ctx, keyState)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		} else if err == nil {
			if a.text = text; exactjson.Unmarshal(text, &a.state) != nil {
				return fmt.Errorf("%w: the relay's state of %s", storage.ErrCorrupt, did)
			}
		}
		for pair, err := range v.Keys(ctx, storage.Prefix(keyHas)) {
			if err != nil {
				return err
			}
			if a.collections == nil {
				a.collections = make(map[syntax.NSID]bool)
			}
			a.collections[syntax.NSID(strings.TrimPrefix(pair.Key, keyHas))] = true
		}
		return nil
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	// This comes last. A takedown writes it before it changes the account: who has missed the one
	// has missed the other, and fails with a conflict.
	if a.tombstone, err = r.ledger.tombstone(ctx, did); err != nil {
		return nil, err
	}
	if a.tombstone != nil && a.tombstone.Pending && !a.exists { // its end was not reached
		a.state = a.tombstone.State
		a.state.Host = cmp.Or(a.state.Host, a.tombstone.From)
	}
	r.cache.fill(a, drops)
	return a, nil
}

// resolve returns what the document of an account says.
func (r *Relay) resolve(ctx context.Context, did syntax.DID, known *accountIdentity) (*accountIdentity, error) {
	doc, err := r.Identity.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	if known != nil && known.doc == doc {
		return known, nil
	}
	w := &accountIdentity{doc: doc}
	if endpoint, ok := doc.PDS(); ok {
		w.host, _ = r.hostOf(endpoint)
	}
	w.key, w.err = doc.SigningKey()
	return w, nil
}

// freshAfter is how old a document may be that speaks against a message: it is fetched anew, but
// not more often than that.
const freshAfter = 10 * time.Second

// resolveAnew returns what the document of an account says now. It is false if it was asked for a
// moment ago.
func (r *Relay) resolveAnew(ctx context.Context, did syntax.DID, known *accountIdentity) (w *accountIdentity, fresh bool, err error) {
	if r.refresh.doneWithin(string(did), r.Now(), freshAfter) {
		return known, false, nil
	}
	r.Identity.Purge(syntax.AtIdentifier(did))
	w, err = r.resolve(ctx, did, known)
	return w, true, err
}

// change collects what messages change of an account, and carries it out in one step of the store.
type change struct {
	r            *Relay
	from         *account // as it is stored
	to           account
	commit       []byte // of to.head, if that is new
	events       []storage.Event
	marks        map[string][]byte // index rows, to be written before
	clear        []string          // index rows, to be deleted after
	kv           []storage.KVWrite // of collections
	keyUncertain bool              // the key may be an old one
	hasWaited    bool              // its first message has waited
	via          string            // the host that has brought the messages; empty: none
}

func (r *Relay) change(a *account) *change { return &change{r: r, from: a, to: *a} }

// emit adds an event.
func (c *change) emit(kind string, payload []byte, weight int) {
	c.events = append(c.events, storage.Event{DID: c.to.did, Kind: kind, Time: c.r.Now(), Payload: payload, Weight: weight})
}

// message adds a message of the relay's own.
func (c *change) message(m commit.Message) { c.emit(m.Kind(), m.Payload(), 1) }

// mark adds an index row.
func (c *change) mark(key string, value []byte) {
	if c.marks == nil {
		c.marks = make(map[string][]byte)
	}
	c.marks[key] = value
}

// collection notes that the account has records of a collection, or no longer.
func (c *change) collection(name syntax.NSID, has bool) {
	if c.to.collections[name] == has || has && len(c.to.collections) >= maxCollections {
		return
	}
	next := maps.Clone(c.to.collections)
	if next == nil {
		next = make(map[syntax.NSID]bool)
	}
	row := keyCollection + string(name) + "/" + string(c.to.did)
	w := storage.KVWrite{Key: keyHas + string(name)}
	if has {
		next[name], w.Value = true, present
		c.mark(row, present)
	} else {
		delete(next, name)
		c.clear = append(c.clear, row)
	}
	c.to.collections = next
	c.kv = append(c.kv, w)
}

// empty reports whether there is nothing to do.
func (c *change) empty() bool {
	return c.to.state == c.from.state && c.to.head == c.from.head && len(c.events) == 0 && len(c.kv) == 0
}

// apply carries the change out. An error that wraps storage.ErrConflict, ErrExists or ErrNotFound
// says that the account has changed: nothing was done. After any error the account is read again.
func (c *change) apply(ctx context.Context) error {
	if c.empty() {
		if c.to.identity != c.from.identity {
			c.r.cache.put(c.from, &c.to)
		}
		return nil
	}
	if err := c.index(ctx); err != nil {
		return err
	}
	step := &storage.Change{Prev: c.from.head, Head: c.to.head, Events: c.events, KV: c.kv}
	if c.to.head != c.from.head {
		step.Commit = c.commit
	}
	check := storage.KVCheck{Key: keyState, Value: c.from.text}
	step.Checks = append(step.Checks, check)
	if c.to.state != c.from.state || !c.from.exists {
		text, err := json.Marshal(c.to.state)
		if err != nil {
			return err
		}
		if !bytes.Equal(text, c.from.text) {
			c.to.text = text
			step.KV = append(step.KV, storage.KVWrite{Key: keyState, Value: text})
		}
	}
	c.r.cache.beginChange(c.from)
	if _, err := c.r.Store.Repos.Apply(ctx, c.to.did, step); err != nil {
		c.r.cache.drop(c.to.did)
		return err
	}
	c.to.exists = true
	c.r.cache.put(c.from, &c.to)
	if len(c.clear) > 0 {
		if err := c.r.ledger.unmark(ctx, c.clear...); err != nil && ctx.Err() == nil {
			c.r.Logger.Warn("relay: an index has rows that lead nowhere", "did", string(c.to.did), "err", err)
		}
	}
	return nil
}

// index writes the index rows that the change needs.
func (c *change) index(ctx context.Context) error {
	if c.r.pending(&c.to) && !c.r.pending(c.from) {
		c.mark(keyWork+string(c.to.did), []byte(cmp.Or(c.to.state.Host, c.via, "-")))
	}
	if len(c.marks) > 0 {
		return c.r.ledger.mark(ctx, c.marks)
	}
	return nil
}

// pending reports whether the account is to be repaired, or to be asked for its collections.
func (r *Relay) pending(a *account) bool {
	return a.tombstone == nil && (a.state.Desync || !a.state.Described && !r.NoCollections && a.head.Rev != "" && a.state.Upstream == "")
}

// changed reports whether an error says that an account has changed meanwhile.
func changed(err error) bool {
	return errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrNotFound)
}

// accountCache keeps the accounts that were used last: two generations, of which the older one is
// forgotten as a whole.
type accountCache struct {
	max int

	// mu guards these.
	mu    sync.Mutex
	young map[syntax.DID]*account
	old   map[syntax.DID]*account
	costs int   // of the young ones
	drops int64 // raised whenever what somebody reads now may be outdated
	// changing are the accounts that are being changed in the store. Whoever has seen the event of
	// a change finds the change, so what was before is not in the cache meanwhile.
	changing map[syntax.DID]*account
}

func newAccountCache(most int) *accountCache {
	return &accountCache{max: most, young: make(map[syntax.DID]*account), changing: make(map[syntax.DID]*account)}
}

func (c *accountCache) get(did syntax.DID) *account {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.young[did]
	if a == nil {
		if a = c.old[did]; a != nil {
			c.putLocked(a)
		}
	}
	return a
}

// dropped returns how many accounts were dropped.
func (c *accountCache) dropped() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

// fill takes in an account that was read from the store, if none was dropped since: it may be this
// one.
func (c *accountCache) fill(a *account, drops int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drops == drops && c.young[a.did] == nil && c.old[a.did] == nil && c.changing[a.did] == nil {
		c.putLocked(a)
	}
}

// beginChange says that what an account was is being changed.
func (c *accountCache) beginChange(was *account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young[was.did] == was || c.old[was.did] == was {
		c.changing[was.did] = was
	} else {
		c.drops++ // who reads it now may have what it was
	}
	delete(c.young, was.did)
	delete(c.old, was.did)
}

// put takes in what an account has become, if it is what it was. If not, it is forgotten, so that
// the store says what it is.
func (c *accountCache) put(was, is *account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.young[is.did]
	if now == nil {
		now = c.old[is.did]
	}
	if now == nil {
		now = c.changing[is.did]
	}
	delete(c.changing, is.did)
	if now != was {
		c.drops++ // who reads it now may have what it was
		delete(c.young, is.did)
		delete(c.old, is.did)
		return
	}
	c.putLocked(is)
}

func (c *accountCache) putLocked(a *account) {
	delete(c.old, a.did)
	if c.young[a.did] == nil {
		// An account with many collections counts as several.
		if c.costs += 1 + len(a.collections)/16; c.costs > c.max/2 {
			c.old, c.young, c.costs = c.young, make(map[syntax.DID]*account), 0
		}
	}
	c.young[a.did] = a
}

func (c *accountCache) drop(did syntax.DID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	delete(c.young, did)
	delete(c.old, did)
	delete(c.changing, did)
}
