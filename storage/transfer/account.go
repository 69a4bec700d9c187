package transfer

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Limits on what is read from one snapshot and kept in memory, for each account at a time.
const (
	pageItems = 2000
	pageBytes = 4 << 20
)

// account makes an account at the target what it is at the source. It may be called again and
// again. While the source is in use, the account may have changed again when it returns: that is
// noted then.
func (m *Mover) account(ctx context.Context, did syntax.DID) error {
	m.mu.Lock()
	if m.verifying {
		m.unverified[did] = true
	}
	m.mu.Unlock()
	switch there, err := m.isThere(ctx, did); {
	case err != nil:
		return err
	case !there:
		if m.to != nil {
			if err := m.to.Unload(ctx, did); err != nil {
				return err
			}
		}
		if !m.cfg.SameBlobs {
			if err := m.cfg.To.Blobs.DeleteAll(ctx, did); err != nil {
				return err
			}
		}
	default:
		if m.to != nil {
			if err := m.repository(ctx, did); errors.Is(err, storage.ErrNotFound) {
				return nil // it was deleted meanwhile, which is noted
			} else if err != nil {
				return err
			}
		}
		if !m.cfg.SameBlobs {
			if err := m.blobs(ctx, did); err != nil {
				return err
			}
		}
	}
	m.count(func(p *Progress) { p.Accounts, p.At = p.Accounts+1, did })
	return nil
}

// isThere reports whether the source has an account, be it without a head.
func (m *Mover) isThere(ctx context.Context, did syntax.DID) (bool, error) {
	err := m.cfg.From.Repos.View(ctx, did, func(storage.Reader) error { return nil })
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// copying is an account that is being copied, in pieces.
type copying struct {
	m     *Mover
	did   syntax.DID
	began bool
	head  storage.Head // of the first piece
	same  bool         // all pieces had it
	fresh bool         // the target had no such account
	// What comes next: records from path on, then references after blob, then keys from key on.
	stage int
	path  string
	blob  cid.Cid
	key   string

	load  storage.Load // the present piece
	items int
	size  int64
}

// errHeadless: the account has had a head, was deleted, and has none now.
var errHeadless = errors.New("transfer: the account has no head any more")

func (m *Mover) repository(ctx context.Context, did syntax.DID) error {
	err := m.copyRepo(ctx, did)
	if errors.Is(err, errHeadless) {
		if err = m.to.Unload(ctx, did); err == nil {
			err = m.copyRepo(ctx, did)
		}
	}
	return err
}

func (m *Mover) copyRepo(ctx context.Context, did syntax.DID) error {
	c := &copying{m: m, did: did, same: true}
	for done := false; !done; {
		err := m.views(ctx, did, func(r, t storage.Reader) (err error) {
			done, err = c.piece(ctx, r, t)
			return err
		})
		if err != nil {
			return err
		}
		if err := c.write(ctx); err != nil {
			return err
		}
	}
	return nil
}

// views calls fn with a snapshot of an account in both stores; the target's is nil if it has none.
func (m *Mover) views(ctx context.Context, did syntax.DID, fn func(r, t storage.Reader) error) error {
	return m.cfg.From.Repos.View(ctx, did, func(r storage.Reader) error {
		entered := false
		err := m.cfg.To.Repos.View(ctx, did, func(t storage.Reader) error {
			entered = true
			return fn(r, t)
		})
		if !entered && errors.Is(err, storage.ErrNotFound) {
			return fn(r, nil)
		}
		return err
	})
}

// piece finds the next differences, and reports whether these are the last ones.
func (c *copying) piece(ctx context.Context, r, t storage.Reader) (done bool, err error) {
	head := r.Head()
	if !c.began {
		c.began, c.head, c.fresh = true, head, t == nil
		if t != nil && t.Head() == head && head != (storage.Head{}) {
			c.stage = 2 // so all its records are there
		}
	}
	if head == (storage.Head{}) && t != nil && t.Head() != head {
		return false, errHeadless
	}
	c.same = c.same && head == c.head
	for _, stage := range []func(context.Context, storage.Reader, storage.Reader) (bool, error){c.records, c.references, c.keys}[c.stage:] {
		full, err := stage(ctx, r, t)
		if full || err != nil {
			return false, err
		}
		c.stage++
	}
	if c.same && head != (storage.Head{}) && (t == nil || t.Head() != head) {
		c.load.Head = head
		c.load.Commit, err = r.Commit(ctx)
	}
	return err == nil, err
}

// write writes the piece.
func (c *copying) write(ctx context.Context) error {
	l := c.load
	c.load = storage.Load{}
	items, size := c.items, c.size
	c.items, c.size = 0, 0
	if items == 0 && l.Head == (storage.Head{}) && !c.fresh {
		return nil
	}
	c.fresh = false
	if err := c.m.pace(ctx, size); err != nil {
		return err
	}
	if err := c.m.to.Load(ctx, c.did, &l); err != nil {
		return err
	}
	c.m.count(func(p *Progress) {
		p.Records, p.Keys, p.Bytes = p.Records+int64(len(l.Records)), p.Keys+int64(len(l.KV)), p.Bytes+size
	})
	return nil
}

// pace waits as the rate asks, while the source is in use.
func (m *Mover) pace(ctx context.Context, n int64) error {
	if m.shut {
		return ctx.Err()
	}
	return m.rate.wait(ctx, n)
}

// add counts an item of the piece, and reports whether that is full.
func (c *copying) add(size int) bool {
	c.items++
	c.size += int64(size)
	return c.full()
}

func (c *copying) full() bool { return c.items >= pageItems || c.size >= pageBytes }

// cursor reads a sorted sequence, one ahead. The zero value has nothing.
type cursor[T any] struct {
	value T
	ok    bool
	next  func() (T, error, bool)
	stop  func()
}

func newCursor[T any](seq iter.Seq2[T, error]) (*cursor[T], error) {
	c := new(cursor[T])
	if seq == nil {
		return c, nil
	}
	c.next, c.stop = iter.Pull2(seq)
	return c, c.advance()
}

func (c *cursor[T]) advance() (err error) {
	c.value, err, c.ok = c.next()
	return err
}

func (c *cursor[T]) close() {
	if c.stop != nil {
		c.stop()
	}
}

// records finds the next records that differ. Where the target has none from a path on, as at the
// first time, all are read with their data; else keys are compared, and data is read of what
// differs.
func (c *copying) records(ctx context.Context, r, t storage.Reader) (full bool, err error) {
	var there iter.Seq2[storage.Record, error]
	if t != nil {
		there = t.Records(ctx, storage.Range{From: c.path, KeysOnly: true})
	}
	old, err := newCursor(there)
	if err != nil {
		return false, err
	}
	defer old.close()
	drop := func() (bool, error) {
		c.load.Records = append(c.load.Records, storage.Record{Path: old.value.Path})
		c.path = old.value.Path + "\x00"
		return c.add(len(c.path)), old.advance()
	}
	for compare := true; compare; {
		compare = false
		keysOnly := old.ok
		for rec, err := range r.Records(ctx, storage.Range{From: c.path, KeysOnly: keysOnly}) {
			if err != nil {
				return false, err
			}
			for old.ok && old.value.Path < rec.Path {
				if full, err := drop(); full || err != nil {
					return full, err
				}
			}
			if keysOnly && !old.ok { // from here on with data
				compare, c.path = true, rec.Path
				break
			}
			same := old.ok && old.value.Path == rec.Path
			if same {
				same = old.value.CID == rec.CID && old.value.Rev == rec.Rev
				if err := old.advance(); err != nil {
					return false, err
				}
			}
			c.path = rec.Path + "\x00"
			if same {
				continue
			}
			if keysOnly {
				if rec, err = r.Record(ctx, rec.Path); err != nil {
					return false, err
				}
			}
			c.load.Records = append(c.load.Records, rec)
			if c.add(len(rec.Path) + len(rec.Data)) {
				return true, nil
			}
		}
	}
	for old.ok {
		if full, err := drop(); full || err != nil {
			return full, err
		}
	}
	return false, nil
}

func compareRefs(a, b storage.BlobRef) int {
	if n := strings.Compare(a.Blob.KeyString(), b.Blob.KeyString()); n != 0 {
		return n
	}
	return strings.Compare(a.Path, b.Path)
}

// references finds the next references that differ. A piece ends between two blobs, where
// Reader.BlobRefs can go on.
func (c *copying) references(ctx context.Context, r, t storage.Reader) (full bool, err error) {
	var there iter.Seq2[storage.BlobRef, error]
	if t != nil {
		there = t.BlobRefs(ctx, c.blob, "")
	}
	old, err := newCursor(there)
	if err != nil {
		return false, err
	}
	defer old.close()
	last := c.blob
	// passed ends the piece, or writes it, before the first reference to another blob.
	passed := func(ref storage.BlobRef) (bool, error) {
		if ref.Blob != last {
			c.blob, last = last, ref.Blob
			return c.full(), nil
		}
		if c.items >= 10*pageItems { // of one blob alone
			return false, c.write(ctx)
		}
		return false, nil
	}
	drop := func() error {
		c.load.NoRefs = append(c.load.NoRefs, old.value)
		c.add(len(old.value.Path))
		return old.advance()
	}
	for ref, err := range r.BlobRefs(ctx, c.blob, "") {
		if err != nil {
			return false, err
		}
		for old.ok && compareRefs(old.value, ref) < 0 {
			if full, err := passed(old.value); full || err != nil {
				return full, err
			}
			if err := drop(); err != nil {
				return false, err
			}
		}
		if full, err := passed(ref); full || err != nil {
			return full, err
		}
		same := old.ok && compareRefs(old.value, ref) == 0
		if same {
			same = old.value.Rev == ref.Rev
			if err := old.advance(); err != nil {
				return false, err
			}
		}
		if !same {
			c.load.Refs = append(c.load.Refs, ref)
			c.add(len(ref.Path))
		}
	}
	for old.ok {
		if full, err := passed(old.value); full || err != nil {
			return full, err
		}
		if err := drop(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// samePair compares keys as all backends keep them, to the millisecond.
func samePair(a, b storage.KVPair) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Expires.Truncate(time.Millisecond).Equal(b.Expires.Truncate(time.Millisecond))
}

// keys finds the next keys that differ.
func (c *copying) keys(ctx context.Context, r, t storage.Reader) (full bool, err error) {
	var there storage.KVReader
	if t != nil {
		there = t
	}
	return compareKeys(ctx, r, there, &c.key, nil, func(w storage.KVWrite) bool {
		c.load.KV = append(c.load.KV, w)
		return c.add(len(w.Key) + len(w.Value))
	})
}

// compareKeys yields what must be written to make the keys of t, from *from on, those of r, until
// yield returns true. Keys for which skip returns true are left alone.
func compareKeys(ctx context.Context, r, t storage.KVReader, from *string, skip func(string) bool, yield func(storage.KVWrite) bool) (full bool, err error) {
	var there iter.Seq2[storage.KVPair, error]
	if t != nil {
		there = t.Keys(ctx, storage.Range{From: *from})
	}
	old, err := newCursor(there)
	if err != nil {
		return false, err
	}
	defer old.close()
	put := func(w storage.KVWrite) bool {
		*from = w.Key + "\x00"
		return (skip == nil || !skip(w.Key)) && yield(w)
	}
	for p, err := range r.Keys(ctx, storage.Range{From: *from}) {
		if err != nil {
			return false, err
		}
		for old.ok && old.value.Key < p.Key {
			w := storage.KVWrite{Key: old.value.Key}
			if err := old.advance(); err != nil {
				return false, err
			}
			if put(w) {
				return true, nil
			}
		}
		same := old.ok && old.value.Key == p.Key
		if same {
			same = samePair(old.value, p)
			if err := old.advance(); err != nil {
				return false, err
			}
		}
		if same {
			*from = p.Key + "\x00"
		} else if put(storage.KVWrite{Key: p.Key, Value: append([]byte{}, p.Value...), Expires: p.Expires}) {
			return true, nil
		}
	}
	for old.ok {
		w := storage.KVWrite{Key: old.value.Key}
		if err := old.advance(); err != nil {
			return false, err
		}
		if put(w) {
			return true, nil
		}
	}
	return false, nil
}
