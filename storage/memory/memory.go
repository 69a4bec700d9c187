// Package memory keeps a store in memory. It is the model of the storage contract, with which other
// backends are compared. It also serves tests, and hosts whose repositories need not outlive the
// process.
//
// All state is in immutable maps that share structure. Writers are serialized, and each makes a new
// state. A reader takes the present state and needs no lock after that.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Config configures a store. The zero value works.
type Config struct {
	// Now is the clock, for sequence numbers and expiry. Nil: time.Now.
	Now func() time.Time
	// SnapshotTime is how long a snapshot may stay open. 0: one hour.
	SnapshotTime time.Duration
}

// New returns an empty store.
func New(cfg Config) storage.Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.SnapshotTime <= 0 {
		cfg.SnapshotTime = time.Hour
	}
	db := &db{now: cfg.Now, life: cfg.SnapshotTime, turn: make(chan struct{}, 1), changed: make(chan struct{})}
	return storage.Store{Repos: repos{db}, Events: events{db}, KV: kv{db: db}, Blobs: newBlobs(cfg.Now)}
}

// db is the shared state of the four stores, but for blobs.
type db struct {
	now  func() time.Time
	life time.Duration // of snapshots
	turn chan struct{} // has room for one: full while somebody writes

	mu sync.RWMutex // held for moments only, never while a function of the caller runs
	state
	changed chan struct{} // closed and replaced when the log grows
}

// state is all that is stored, at one moment.
type state struct {
	repos   pmap.Map[*repoState]
	global  pmap.Map[pair]
	log     pmap.Map[storage.Event] // by seqKey
	byDID   pmap.Map[storage.Event] // the same, by DID, 0, seqKey
	newest  int64
	trimmed int64 // greatest number that Trim deleted
	watch   storage.Watch
	changed pmap.Map[storage.Changed] // noted for who moves the store, by changedKey
	stamp   int64                     // of the newest note
}

// read returns the present state, and a channel that is closed when the log has grown.
func (d *db) read() (state, <-chan struct{}) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.state, d.changed
}

// write waits for its turn and calls fn with a state, which takes the place of the present one if
// fn returns nil. It fails if the store is shut.
func (d *db) write(ctx context.Context, fn func(*state) error) error {
	return d.writeShut(ctx, func(s *state) error {
		if s.watch.State == storage.Shut {
			return storage.ErrMoved
		}
		return fn(s)
	})
}

// writeShut is write for a store that may be shut.
func (d *db) writeShut(ctx context.Context, fn func(*state) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.turn }()
	next, _ := d.read()
	newest := next.newest
	if err := fn(&next); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = next
	if next.newest != newest {
		close(d.changed)
		d.changed = make(chan struct{})
	}
	return nil
}

// repoState is one repository. It never changes.
type repoState struct {
	head    storage.Head
	commit  []byte
	records pmap.Map[record]
	byCID   pmap.Map[string]     // binary CID, 0, path → path
	blobs   pmap.Map[syntax.TID] // binary CID, path → rev
	kv      pmap.Map[pair]
}

type record struct {
	storage.Record
	blobs []cid.Cid
}

type repos struct{ *db }

func (d repos) get(did syntax.DID) (*repoState, error) {
	now, _ := d.read()
	if st, ok := now.repos.Get(string(did)); ok {
		return st, nil
	}
	return nil, missing(did)
}

func missing(did syntax.DID) error { return fmt.Errorf("%w: repository %s", storage.ErrNotFound, did) }

func (d repos) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	if err := ctx.Err(); err != nil {
		return storage.Head{}, err
	}
	st, err := d.get(did)
	if err == nil && st.head == (storage.Head{}) {
		err = missing(did)
	}
	if err != nil {
		return storage.Head{}, err
	}
	return st.head, nil
}

func (d repos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	err = d.write(ctx, func(s *state) error {
		seq, err = s.apply(d.now, did, c, nil)
		return err
	})
	return seq, err
}

// apply carries out a step. replaced, if not nil, has the records that take the place of all
// others.
func (s *state) apply(clock func() time.Time, did syntax.DID, c *storage.Change, replaced *repoState) (int64, error) {
	old, ok := s.repos.Get(string(did))
	next := repoState{}
	if ok {
		next = *old
	}
	switch none := (storage.Head{}); {
	case next.head != none && c.Prev == none:
		return 0, fmt.Errorf("%w: repository %s", storage.ErrExists, did)
	case !ok && c.Prev != none:
		return 0, missing(did)
	case next.head != c.Prev:
		return 0, fmt.Errorf("%w: head is %s", storage.ErrConflict, next.head.Rev)
	}
	now := clock()
	for _, check := range c.Checks {
		p, there := next.kv.Get(check.Key)
		there = there && p.live(now)
		if there != (check.Value != nil) || there && string(p.value) != string(check.Value) {
			return 0, fmt.Errorf("%w: key %q has another value", storage.ErrConflict, check.Key)
		}
	}
	if c.Head != c.Prev {
		next.head, next.commit = c.Head, bytes.Clone(c.Commit)
	}
	if replaced != nil {
		next.records, next.byCID, next.blobs = replaced.records, replaced.byCID, replaced.blobs
	}
	for i := range c.Records {
		next.change(&c.Records[i], c.Head.Rev)
	}
	for _, w := range c.KV {
		if w.Value == nil {
			next.kv = next.kv.Delete(w.Key)
		} else {
			next.kv = set(next.kv, w.Key, w.Value, w.Expires, now)
		}
	}
	s.repos = s.repos.Set(string(did), &next)
	s.note(storage.ChangedAccount, string(did))
	return s.append(clock, c.Events), nil
}

// change carries out one change of a record.
func (st *repoState) change(c *storage.RecordChange, rev syntax.TID) {
	if old, ok := st.records.Get(c.Path); ok {
		st.byCID = st.byCID.Delete(old.CID.KeyString() + "\x00" + c.Path)
		for _, b := range old.blobs {
			st.blobs = st.blobs.Delete(b.KeyString() + c.Path)
		}
	}
	if !c.CID.Defined() {
		st.records = st.records.Delete(c.Path)
		return
	}
	rec := record{storage.Record{Path: c.Path, CID: c.CID, Data: bytes.Clone(c.Data), Rev: rev}, slices.Clone(c.Blobs)}
	st.records = st.records.Set(c.Path, rec)
	st.byCID = st.byCID.Set(c.CID.KeyString()+"\x00"+c.Path, c.Path)
	for _, b := range c.Blobs {
		st.blobs = st.blobs.Set(b.KeyString()+c.Path, rev)
	}
}

func (d repos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (seq int64, err error) {
	var all []storage.RecordChange
	for r, err := range records {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		r.Data, r.Blobs = bytes.Clone(r.Data), slices.Clone(r.Blobs)
		all = append(all, r)
	}
	c, err := final()
	if err == nil {
		err = c.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	// Made before the turn, so that others need not wait for it.
	var replaced repoState
	for i := range all {
		replaced.change(&all[i], c.Head.Rev)
	}
	err = d.write(ctx, func(s *state) error {
		seq, err = s.apply(d.now, did, c, &replaced)
		return err
	})
	return seq, err
}

func (d repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := d.get(did)
	if err != nil {
		return err
	}
	return fn(reader{st, d.now()})
}

func (d repos) Delete(ctx context.Context, did syntax.DID, list []storage.Event) (seq int64, err error) {
	if err := storage.ValidateEvents(list); err != nil {
		return 0, err
	}
	err = d.write(ctx, func(s *state) error {
		if _, ok := s.repos.Get(string(did)); !ok {
			return missing(did)
		}
		s.repos = s.repos.Delete(string(did))
		s.note(storage.ChangedAccount, string(did))
		s.note(storage.ChangedEvents, string(did))
		from, to := ofAccount(did)
		old := s.byDID
		for key, e := range old.Range(from, to, false) {
			s.log, s.byDID = s.log.Delete(seqKey(e.Seq)), s.byDID.Delete(key)
		}
		seq = s.append(d.now, list)
		return nil
	})
	return seq, err
}

func (d repos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return until(ctx, func(yield func(storage.RepoInfo) bool) {
		now, _ := d.read()
		for did, st := range now.repos.Range(from(string(after)), "", false) {
			if !yield(storage.RepoInfo{DID: syntax.DID(did), Head: st.head}) {
				return
			}
		}
	})
}

// from is the least key greater than after.
func from(after string) string {
	if after == "" {
		return ""
	}
	return after + "\x00"
}
