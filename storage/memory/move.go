package memory

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var (
	_ storage.Movable     = repos{}
	_ storage.Loader      = repos{}
	_ storage.StagedBlobs = (*blobs)(nil)
)

func changedKey(k storage.ChangedKind, name string) string { return string(rune(k)) + name }

// note notes a change, if the store is watched.
func (s *state) note(kind storage.ChangedKind, name string) {
	if s.watch.State != storage.Unwatched {
		s.stamp++
		s.changed = s.changed.Set(changedKey(kind, name), storage.Changed{Kind: kind, Name: name, Stamp: s.stamp})
	}
}

// Watch implements storage.Movable.
func (d repos) Watch(ctx context.Context, note string) error {
	return d.writeShut(ctx, func(s *state) error {
		s.watch = storage.Watch{State: storage.Watching, Note: note}
		return nil
	})
}

var errUnwatched = errors.New("memory: a store that is not watched cannot be shut")

// Shut implements storage.Movable.
func (d repos) Shut(ctx context.Context, note string) error {
	return d.writeShut(ctx, func(s *state) error {
		if s.watch.State == storage.Unwatched {
			return errUnwatched
		}
		s.watch = storage.Watch{State: storage.Shut, Note: note}
		return nil
	})
}

// Unwatch implements storage.Movable.
func (d repos) Unwatch(ctx context.Context) error {
	return d.writeShut(ctx, func(s *state) error {
		s.watch, s.changed = storage.Watch{}, pmap.Map[storage.Changed]{}
		return nil
	})
}

// Watched implements storage.Movable.
func (d repos) Watched(ctx context.Context) (storage.Watch, error) {
	now, _ := d.read()
	return now.watch, ctx.Err()
}

// Changed implements storage.Movable.
func (d repos) Changed(ctx context.Context) iter.Seq2[storage.Changed, error] {
	return until(ctx, func(yield func(storage.Changed) bool) {
		now, _ := d.read()
		for _, c := range now.changed.Range("", "", false) {
			if !yield(c) {
				return
			}
		}
	})
}

// Settle implements storage.Movable.
func (d repos) Settle(ctx context.Context, list []storage.Changed) error {
	return d.writeShut(ctx, func(s *state) error {
		for _, c := range list {
			key := changedKey(c.Kind, c.Name)
			if old, ok := s.changed.Get(key); ok && old == c {
				s.changed = s.changed.Delete(key)
			}
		}
		return nil
	})
}

// Touch implements storage.Movable.
func (d repos) Touch(ctx context.Context, did syntax.DID) error {
	return d.write(ctx, func(s *state) error {
		s.note(storage.ChangedAccount, string(did))
		return nil
	})
}

// Moving implements storage.Movable.
func (d repos) Moving() storage.KV { return kv{db: d.db, moving: true} }

// Load implements storage.Loader.
func (d repos) Load(ctx context.Context, did syntax.DID, l *storage.Load) error {
	return d.write(ctx, func(s *state) error {
		next := repoState{}
		if old, ok := s.repos.Get(string(did)); ok {
			next = *old
		}
		for _, r := range l.Records {
			next.load(r)
		}
		for _, ref := range l.NoRefs {
			next.refer(ref, false)
		}
		for _, ref := range l.Refs {
			next.refer(ref, true)
		}
		for _, w := range l.KV {
			if w.Value == nil {
				next.kv = next.kv.Delete(w.Key)
			} else {
				next.kv = set(next.kv, w.Key, w.Value, w.Expires, time.Time{})
			}
		}
		if l.Head != (storage.Head{}) {
			next.head, next.commit = l.Head, bytes.Clone(l.Commit)
		}
		s.repos = s.repos.Set(string(did), &next)
		return nil
	})
}

// load writes or removes a record, and leaves its references as they are.
func (st *repoState) load(r storage.Record) {
	var refs []cid.Cid
	if old, ok := st.records.Get(r.Path); ok {
		st.byCID = st.byCID.Delete(old.CID.KeyString() + "\x00" + r.Path)
		refs = old.blobs
	}
	if !r.CID.Defined() {
		st.records = st.records.Delete(r.Path)
		return
	}
	r.Data = bytes.Clone(r.Data)
	st.records = st.records.Set(r.Path, record{r, refs})
	st.byCID = st.byCID.Set(r.CID.KeyString()+"\x00"+r.Path, r.Path)
}

// refer adds a reference, or removes it.
func (st *repoState) refer(ref storage.BlobRef, add bool) {
	key := ref.Blob.KeyString() + ref.Path
	st.blobs = st.blobs.Delete(key)
	rec, ok := st.records.Get(ref.Path)
	list := slices.DeleteFunc(slices.Clone(rec.blobs), func(c cid.Cid) bool { return c == ref.Blob })
	if add {
		st.blobs, list = st.blobs.Set(key, ref.Rev), append(list, ref.Blob)
	}
	if ok {
		rec.blobs = list
		st.records = st.records.Set(ref.Path, rec)
	}
}

// Unload implements storage.Loader.
func (d repos) Unload(ctx context.Context, did syntax.DID) error {
	return d.write(ctx, func(s *state) error {
		s.repos = s.repos.Delete(string(did))
		return nil
	})
}

// LoadEvents implements storage.Loader.
func (d repos) LoadEvents(ctx context.Context, l *storage.LoadEvents) error {
	return d.write(ctx, func(s *state) error {
		for _, seq := range l.Drop {
			s.drop(seq)
		}
		for _, e := range l.Events {
			s.drop(e.Seq)
			s.put(e)
			s.newest = max(s.newest, e.Seq)
		}
		s.newest, s.trimmed = max(s.newest, l.Newest), max(s.trimmed, l.Oldest-1)
		return nil
	})
}

// drop removes an event from the log.
func (s *state) drop(seq int64) {
	if e, ok := s.log.Get(seqKey(seq)); ok {
		from, _ := ofAccount(e.DID)
		s.log, s.byDID = s.log.Delete(seqKey(seq)), s.byDID.Delete(from+seqKey(seq))
	}
}
