package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// tries is how often an account is verified that may have changed meanwhile.
const tries = 3

// verifyAll verifies everything while the source is in use. What changes meanwhile is verified
// after the source is shut.
func (m *Mover) verifyAll(ctx context.Context) error {
	m.phase(Verifying)
	m.mu.Lock()
	m.verifying = true
	m.mu.Unlock()
	var found problems
	check := func(ctx context.Context, did syntax.DID) error {
		err := m.verifyBusy(ctx, did, &found)
		m.count(func(p *Progress) { p.Verified, p.At = p.Verified+1, did })
		return err
	}
	for after, more := syntax.DID(""), true; more; {
		list, next, err := m.repos(ctx, after, chunk)
		if err == nil {
			err = m.each(ctx, list, check)
		}
		if err != nil {
			return err
		}
		after, more = next, next != ""
	}
	if err := m.allHostKeys(ctx); err != nil {
		return err
	}
	if err := m.verifyKeys(ctx, &found); err != nil {
		return err
	}
	if m.to != nil {
		_, newest, err := m.cfg.To.Events.Bounds(ctx)
		if err != nil {
			return err
		}
		list, err := m.compareLog(ctx, 0, newest, false)
		if err != nil {
			return err
		}
		m.logged = newest
		found.add(list...)
	}
	return found.err()
}

// problems are collected under Mover.mu where several goroutines do.
type problems struct{ VerifyError }

func (p *problems) add(list ...string) {
	p.Found += len(list)
	p.Problems = append(p.Problems, list[:min(len(list), maxListed-len(p.Problems))]...)
}

func (p *problems) err() error {
	if p.Found == 0 {
		return nil
	}
	return &p.VerifyError
}

// verifyBusy verifies an account that may change meanwhile.
func (m *Mover) verifyBusy(ctx context.Context, did syntax.DID, found *problems) error {
	before, err := m.head(ctx, did)
	if err != nil {
		return err
	}
	var why string
	for range tries {
		if why, err = m.verify(ctx, did); err != nil {
			return err
		}
		if why == "" {
			return nil
		}
		if err := m.account(ctx, did); err != nil {
			return err
		}
	}
	if why, err = m.verify(ctx, did); why == "" || err != nil {
		return err
	}
	if after, err := m.head(ctx, did); err != nil {
		return err
	} else if after != before {
		return nil // it is in unverified
	}
	if noted, err := m.noted(ctx, did); noted || err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found.add(fmt.Sprintf("%s: %s", did, why))
	return nil
}

func (m *Mover) head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	h, err := m.cfg.From.Repos.Head(ctx, did)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return h, err
}

// noted reports whether an account has changed since it was copied last.
func (m *Mover) noted(ctx context.Context, did syntax.DID) (bool, error) {
	for c, err := range m.from.Changed(ctx) {
		if err != nil {
			return false, err
		}
		if c.Kind == storage.ChangedAccount && c.Name == string(did) {
			return true, nil
		}
	}
	return false, nil
}

// verifyChanged verifies, while the source is in use, what has changed since it was verified. What
// is well, and does not change again, need not be verified while the source is shut.
func (m *Mover) verifyChanged(ctx context.Context) error {
	list := slices.Collect(maps.Keys(m.unverified))
	return m.each(ctx, list, func(ctx context.Context, did syntax.DID) error {
		why, err := m.verify(ctx, did)
		if err == nil && why == "" {
			m.mu.Lock()
			delete(m.unverified, did)
			m.mu.Unlock()
		}
		return err
	})
}

// verifyRest verifies what has changed since, while the source is shut, and that all heads are
// equal.
func (m *Mover) verifyRest(ctx context.Context) error {
	var found problems
	list := slices.Collect(maps.Keys(m.unverified))
	err := m.each(ctx, list, func(ctx context.Context, did syntax.DID) error {
		why, err := m.verifyShut(ctx, did)
		if err == nil && why != "" {
			m.mu.Lock()
			found.add(fmt.Sprintf("%s: %s", did, why))
			m.mu.Unlock()
		}
		m.count(func(p *Progress) { p.Verified, p.At = p.Verified+1, did })
		return err
	})
	if err != nil {
		return err
	}
	if m.to == nil {
		return found.err()
	}
	if err := m.verifyHeads(ctx, &found); err != nil {
		return err
	}
	if err := m.verifyKeys(ctx, &found); err != nil {
		return err
	}
	// What was trimmed since the log was verified is at its beginning.
	oldest, newest, err := m.cfg.From.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	if _, err := m.compareLog(ctx, 0, oldest, false); err != nil {
		return err
	}
	more, err := m.compareLog(ctx, m.logged, math.MaxInt64, true)
	if err != nil {
		return err
	}
	found.add(more...)
	o, n, err := m.cfg.To.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	if o != oldest || n != newest {
		found.add(fmt.Sprintf("the log is from %d to %d, that of the source from %d to %d", o, n, oldest, newest))
	}
	return found.err()
}

// verifyShut verifies an account while the source is shut. Blobs are no part of the transaction
// that is refused, so some may come all the same. Nobody was told that they are there.
func (m *Mover) verifyShut(ctx context.Context, did syntax.DID) (why string, err error) {
	for range tries {
		if why, err = m.verify(ctx, did); why == "" || err != nil || m.cfg.SameBlobs {
			return why, err
		}
		if there, err := m.isThere(ctx, did); err != nil || !there {
			return why, err
		}
		if err := m.blobs(ctx, did); err != nil {
			return "", err
		}
	}
	return m.verify(ctx, did)
}

// verifyHeads compares the lists of all accounts.
func (m *Mover) verifyHeads(ctx context.Context, found *problems) error {
	to, err := newCursor(m.cfg.To.Repos.List(ctx, ""))
	if err != nil {
		return err
	}
	defer to.close()
	for info, err := range m.cfg.From.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		for to.ok && to.value.DID < info.DID {
			found.add(fmt.Sprintf("%s: the source has no such account", to.value.DID))
			if err := to.advance(); err != nil {
				return err
			}
		}
		if !to.ok || to.value.DID != info.DID {
			found.add(fmt.Sprintf("%s: the account is not there", info.DID))
			continue
		}
		if to.value.Head != info.Head {
			found.add(fmt.Sprintf("%s: the head is %s, that of the source %s", info.DID, to.value.Head.Rev, info.Head.Rev))
		}
		if err := to.advance(); err != nil {
			return err
		}
	}
	for to.ok {
		found.add(fmt.Sprintf("%s: the source has no such account", to.value.DID))
		if err := to.advance(); err != nil {
			return err
		}
	}
	return nil
}

// verifyKeys compares the keys of the host. While the source is in use, those that differ are only
// copied again.
func (m *Mover) verifyKeys(ctx context.Context, found *problems) error {
	if m.to == nil || !m.shut {
		return nil
	}
	from := ""
	return m.cfg.From.KV.Read(ctx, func(r storage.KVReader) error {
		return m.cfg.To.KV.Read(ctx, func(t storage.KVReader) error {
			_, err := compareKeys(ctx, r, t, &from, m.skips, func(w storage.KVWrite) bool {
				if !m.expired(w.Expires) && !m.expiredAt(ctx, t, w.Key) {
					found.add(fmt.Sprintf("the key %q of the host is not what it is at the source", w.Key))
				}
				return false
			})
			return err
		})
	})
}

// expired reports whether a key may be seen at one store and not at the other.
func (m *Mover) expired(t time.Time) bool {
	return !t.IsZero() && t.Before(m.cfg.Now().Add(time.Second))
}

// expiredAt is expired for a key of a store.
func (m *Mover) expiredAt(ctx context.Context, t storage.KVReader, key string) bool {
	for p, err := range t.Keys(ctx, storage.Range{From: key, To: key + "\x00"}) {
		return err == nil && m.expired(p.Expires)
	}
	return false
}

// verify compares an account of the target with the source, and says what is wrong.
func (m *Mover) verify(ctx context.Context, did syntax.DID) (why string, err error) {
	if there, err := m.isThere(ctx, did); err != nil {
		return "", err
	} else if !there {
		return m.verifyGone(ctx, did)
	}
	if m.to != nil {
		err = m.views(ctx, did, func(r, t storage.Reader) (err error) {
			if t == nil {
				why = "it is not there"
				return nil
			}
			why, err = m.verifyRepo(ctx, did, r, t)
			return err
		})
		if errors.Is(err, storage.ErrNotFound) {
			return "it was deleted", nil
		}
	}
	if why == "" && err == nil && !m.cfg.SameBlobs {
		why, err = m.verifyBlobs(ctx, did)
	}
	if errors.Is(err, storage.ErrCorrupt) {
		return err.Error(), nil
	}
	return why, err
}

// verifyGone looks whether an account is not at the target.
func (m *Mover) verifyGone(ctx context.Context, did syntax.DID) (string, error) {
	if m.to == nil {
		return "", nil
	}
	why := "the source has no such account"
	err := m.cfg.To.Repos.View(ctx, did, func(storage.Reader) error { return nil })
	if errors.Is(err, storage.ErrNotFound) {
		why, err = "", nil
	}
	return why, err
}

// difference ends a comparison.
type difference string

func (w difference) Error() string { return string(w) }

func differenceError(format string, args ...any) error {
	return difference(fmt.Sprintf(format, args...))
}

func (m *Mover) verifyRepo(ctx context.Context, did syntax.DID, r, t storage.Reader) (string, error) {
	err := m.compareRepo(ctx, did, r, t)
	var w difference
	if errors.As(err, &w) {
		return string(w), nil
	}
	return "", err
}

func (m *Mover) compareRepo(ctx context.Context, did syntax.DID, r, t storage.Reader) error {
	head := r.Head()
	if t.Head() != head {
		return differenceError("its head is %s, that of the source %s", t.Head().Rev, head.Rev)
	}
	if head != (storage.Head{}) {
		if err := verifyCommit(ctx, did, t); err != nil {
			return err
		}
	}
	if err := verifyRecords(ctx, r, t); err != nil {
		return err
	}
	err := pairs(r.BlobRefs(ctx, cid.Undef, ""), t.BlobRefs(ctx, cid.Undef, ""), func(a, b storage.BlobRef) error {
		if a != b {
			return differenceError("a reference of %s to blob %s is not what it is at the source", a.Path, a.Blob)
		}
		return nil
	})
	if err != nil {
		return err
	}
	from := ""
	var bad string
	_, err = compareKeys(ctx, r, t, &from, nil, func(w storage.KVWrite) bool {
		if m.expired(w.Expires) || m.expiredAt(ctx, t, w.Key) {
			return false
		}
		bad = w.Key
		return true
	})
	if err == nil && bad != "" {
		err = differenceError("its key %q is not what it is at the source", bad)
	}
	return err
}

// verifyCommit looks whether the commit of a repository is the one that its head says.
func verifyCommit(ctx context.Context, did syntax.DID, t storage.Reader) error {
	head := t.Head()
	block, err := t.Commit(ctx)
	if err != nil {
		return err
	}
	if !dag.Matches(head.Commit, block) {
		return differenceError("its commit is not what the head says")
	}
	if obj, err := commit.Parse(block); err != nil {
		return differenceError("its commit: %v", err)
	} else if obj.DID != did || obj.Data != head.Data || obj.Rev != head.Rev {
		return differenceError("its commit is that of %s, %s, tree %s", obj.DID, obj.Rev, obj.Data)
	}
	return nil
}

// verifyRecords computes the root of the tree from the target's records, and compares them with
// their CIDs, and with those of the source.
func verifyRecords(ctx context.Context, r, t storage.Reader) error {
	source, err := newCursor(r.Records(ctx, storage.Range{KeysOnly: true}))
	if err != nil {
		return err
	}
	defer source.close()
	root, err := mst.RootOf(func(yield func(mst.Entry, error) bool) {
		for rec, err := range t.Records(ctx, storage.Range{}) {
			switch s := source.value; {
			case err != nil:
			case !source.ok || s.Path > rec.Path:
				err = differenceError("the source has no record %s", rec.Path)
			case s.Path < rec.Path:
				err = differenceError("record %s is not there", s.Path)
			case s.CID != rec.CID || s.Rev != rec.Rev:
				err = differenceError("record %s is %s of %s, at the source %s of %s", rec.Path, rec.CID, rec.Rev, s.CID, s.Rev)
			case !dag.Matches(rec.CID, rec.Data):
				err = differenceError("the data of record %s does not match its CID", rec.Path)
			default:
				err = source.advance()
			}
			if !yield(mst.Entry{Key: rec.Path, Value: rec.CID}, err) || err != nil {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case source.ok:
		return differenceError("record %s is not there", source.value.Path)
	case root != r.Head().Data && r.Head() != (storage.Head{}):
		return differenceError("its records make tree %s, the commit has %s", root, r.Head().Data)
	}
	return nil
}

// pairs calls fn with the values of two sequences that must have the same length.
func pairs[T any](a, b iter.Seq2[T, error], fn func(a, b T) error) error {
	other, err := newCursor(b)
	if err != nil {
		return err
	}
	defer other.close()
	for v, err := range a {
		if err == nil && !other.ok {
			err = differenceError("something of %v is not there", v)
		}
		if err == nil {
			err = fn(v, other.value)
		}
		if err == nil {
			err = other.advance()
		}
		if err != nil {
			return err
		}
	}
	if other.ok {
		return differenceError("there is something that the source does not have: %v", other.value)
	}
	return nil
}

// verifyBlobs compares the blobs of an account, and reads them back.
func (m *Mover) verifyBlobs(ctx context.Context, did syntax.DID) (string, error) {
	err := m.compareBlobs(ctx, did)
	var w difference
	if errors.As(err, &w) {
		return string(w), nil
	}
	return "", err
}

func (m *Mover) compareBlobs(ctx context.Context, did syntax.DID) error {
	readable := func(seq iter.Seq2[storage.BlobInfo, error]) iter.Seq2[storage.BlobInfo, error] {
		return func(yield func(storage.BlobInfo, error) bool) {
			for info, err := range seq {
				if err == nil && m.isLost(did, info.CID) {
					continue
				}
				if !yield(info, err) {
					return
				}
			}
		}
	}
	from, to := m.cfg.From.Blobs, m.cfg.To.Blobs
	err := pairs(readable(from.List(ctx, did, cid.Undef)), to.List(ctx, did, cid.Undef), func(a, b storage.BlobInfo) error {
		if a.CID != b.CID || a.Size != b.Size || a.MIME != b.MIME {
			return differenceError("blob %s of %d bytes, %q, is not what it is at the source", a.CID, b.Size, b.MIME)
		}
		return m.readBack(ctx, did, a)
	})
	if err != nil {
		return err
	}
	for a, err := range readable(staged(ctx, from, did)) {
		if err != nil {
			return err
		}
		b, _, err := to.Stat(ctx, did, a.CID)
		if errors.Is(err, storage.ErrNotFound) {
			return differenceError("the staged blob %s is not there", a.CID)
		} else if err != nil {
			return err
		}
		if a.Size != b.Size || a.MIME != b.MIME {
			return differenceError("the staged blob %s is not what it is at the source", a.CID)
		}
		if err := m.readBack(ctx, did, a); err != nil {
			return err
		}
	}
	return nil
}

// readBack reads a blob of the target, if it is in the sample, and compares it with its CID.
func (m *Mover) readBack(ctx context.Context, did syntax.DID, info storage.BlobInfo) error {
	_, digest, ok := dag.Split(info.CID)
	if n := uint64(max(1, m.cfg.Sample)); ok && n > 1 && binary.BigEndian.Uint64(digest[:8])%n != 0 {
		return ctx.Err()
	}
	r, _, err := m.cfg.To.Blobs.Open(ctx, did, info.CID)
	if errors.Is(err, storage.ErrNotFound) {
		return differenceError("blob %s is not there", info.CID)
	} else if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &limited{ctx: ctx, r: r, l: new(limiter)}); errors.Is(err, storage.ErrCorrupt) {
		return differenceError("blob %s: %v", info.CID, err)
	} else if err != nil {
		return err
	}
	if got := dag.Digest(h.Sum(nil)); got != digest {
		return differenceError("blob %s has other bytes", info.CID)
	}
	return nil
}
