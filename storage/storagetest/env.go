package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// env is what a check works with: a store that is open on a directory of its own.
type env struct {
	testing.TB
	storage.Store
	ctx      context.Context
	backend  Backend
	dir      string
	close    func() error
	patience time.Duration // after which a call counts as blocked
	accounts int
}

func newEnv(tb testing.TB, b Backend, patience time.Duration) *env {
	e := &env{TB: tb, ctx: context.Background(), backend: b, dir: tb.TempDir(), patience: patience}
	e.open()
	tb.Cleanup(func() {
		if e.close != nil {
			if err := e.close(); err != nil {
				tb.Errorf("close: %v", err)
			}
		}
	})
	return e
}

func (e *env) open() { e.Store, e.close = e.backend.Open(e.TB, e.dir) }

// reopen closes the store and opens it again, if it can.
func (e *env) reopen() {
	e.Helper()
	if e.backend.Volatile {
		return
	}
	err := e.close()
	e.close = nil
	e.ok(err, "close")
	e.open()
}

// another opens one more handle on the same data, for the rest of the test. An
// exclusive backend gives the same one.
func (e *env) another() storage.Store {
	if e.backend.Exclusive {
		return e.Store
	}
	return e.openAt(e.dir)
}

func (e *env) openAt(dir string) storage.Store {
	s, closeIt := e.backend.Open(e.TB, dir)
	e.Cleanup(func() {
		if err := closeIt(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
	return s
}

// ok ends the test if there is an error.
func (e *env) ok(err error, what string, args ...any) {
	e.Helper()
	if err != nil {
		e.Fatalf(what+": %v", append(args, err)...)
	}
}

// fails reports it if err is not target.
func (e *env) fails(err, target error, what string, args ...any) {
	e.Helper()
	if !errors.Is(err, target) {
		e.Errorf(what+": error %v, want %v", append(args, err, target)...)
	}
}

// same reports it if got is not want, as they are printed.
func (e *env) same(got, want any, what string, args ...any) {
	e.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		e.Errorf(what+":\n got %s\nwant %s", append(args, cut(g), cut(w))...)
	}
}

func cut(s string) string {
	if len(s) > 500 {
		return s[:500] + "…"
	}
	return s
}

// within ends the test if fn does not return in time.
func (e *env) within(what string, fn func()) {
	e.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(e.patience):
		e.Fatalf("%s: blocked", what)
	}
}

// unchanged reports it if the store does not look the same before and after fn.
func (e *env) unchanged(what string, fn func()) {
	e.Helper()
	before := e.dump()
	fn()
	e.sameLines(e.dump(), before, what+" changed the store")
}

// sameLines reports the first difference of two dumps.
func (e *env) sameLines(got, want []string, what string, args ...any) {
	e.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			e.Errorf(what+":\n got %s\nwant %s", append(args, cut(g), cut(w))...)
			return
		}
	}
}

// collect returns what an iterator yields.
func collect[T any](seq iter.Seq2[T, error]) (list []T, err error) {
	for v, err := range seq {
		if err != nil {
			return list, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (e *env) events(since int64) []storage.Event {
	e.Helper()
	list, err := collect(e.Events.Since(e.ctx, since))
	e.ok(err, "Since(%d)", since)
	return list
}

// view runs fn on a snapshot of a repository.
func (e *env) view(did syntax.DID, fn func(r storage.Reader)) {
	e.Helper()
	e.ok(e.Repos.View(e.ctx, did, func(r storage.Reader) error {
		fn(r)
		return nil
	}), "View %s", did)
}

// dump describes everything in the env's store.
func (e *env) dump() []string {
	e.Helper()
	lines, err := dump(e.ctx, e.Store)
	e.ok(err, "read the whole store")
	return lines
}

// dump describes everything that can be read from a store, without what differs
// from one store to the next: sequence numbers and the age of blobs.
func dump(ctx context.Context, s storage.Store) (lines []string, err error) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	var dids []syntax.DID
	if s.Repos != nil {
		repos, err := collect(s.Repos.List(ctx, ""))
		if err != nil {
			return nil, fmt.Errorf("List: %w", err)
		}
		for _, info := range repos {
			dids = append(dids, info.DID)
			add("repository %s %s", info.DID, headString(info.Head))
			if err := s.Repos.View(ctx, info.DID, func(r storage.Reader) error { return dumpRepo(ctx, r, add) }); err != nil {
				return nil, fmt.Errorf("View: %w", err)
			}
		}
	}
	if s.Events != nil {
		for ev, err := range s.Events.Since(ctx, 0) {
			if err != nil {
				return nil, fmt.Errorf("Since: %w", err)
			}
			add("event %s %s %s of %d: %s", ev.DID, ev.Kind, ev.Time.UTC().Format(time.RFC3339Nano), ev.Numbers(), shown(ev.Payload))
		}
	}
	if s.KV != nil {
		if err := s.KV.Read(ctx, func(r storage.KVReader) error { return dumpKeys(ctx, r, add) }); err != nil {
			return nil, fmt.Errorf("KV.Read: %w", err)
		}
	}
	if s.Blobs != nil {
		for _, did := range dids {
			for info, err := range s.Blobs.List(ctx, did, cid.Undef) {
				if err != nil {
					return nil, fmt.Errorf("Blobs.List: %w", err)
				}
				add("blob %s %s", did, blobString(info))
			}
		}
	}
	return lines, nil
}

func headString(h storage.Head) string { return fmt.Sprintf("%s %s %s", h.Commit, h.Data, h.Rev) }

func recordString(r storage.Record) string {
	return fmt.Sprintf("%s %s %s %s", r.Path, r.CID, r.Rev, shown(r.Data))
}

// shown tells bytes from others: short ones are shown, of long ones the beginning and a digest.
func shown(b []byte) string {
	if len(b) <= 128 {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%x… (%d bytes, SHA-256 %x)", b[:32], len(b), sha256.Sum256(b))
}

func pairString(p storage.KVPair) string {
	expires := "never"
	if !p.Expires.IsZero() {
		expires = p.Expires.UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%q=%q (nil: %v) expires %s", p.Key, p.Value, p.Value == nil, expires)
}

func blobString(b storage.BlobInfo) string { return fmt.Sprintf("%s %d %s", b.CID, b.Size, b.MIME) }

func dumpRepo(ctx context.Context, r storage.Reader, add func(string, ...any)) error {
	block, err := r.Commit(ctx)
	if err != nil && !(errors.Is(err, storage.ErrNotFound) && r.Head() == storage.Head{}) {
		return err
	}
	add("  head %s", headString(r.Head()))
	add("  commit %s", shown(block))
	for rec, err := range r.Records(ctx, storage.Range{}) {
		if err != nil {
			return err
		}
		add("  record %s", recordString(rec))
	}
	for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
		if err != nil {
			return err
		}
		add("  reference %s %s %s", ref.Blob, ref.Path, ref.Rev)
	}
	return dumpKeys(ctx, r, add)
}

func dumpKeys(ctx context.Context, r storage.KVReader, add func(string, ...any)) error {
	for p, err := range r.Keys(ctx, storage.Range{}) {
		if err != nil {
			return err
		}
		add("  key %s", pairString(p))
	}
	return nil
}

// ranges are the selections that are tried on a set of keys in ascending order: of
// all bounds that are keys, lie between them, before or after them, or are missing.
func ranges(keys []string) (list []storage.Range) {
	bounds := []string{"", "\x00", "~~~"}
	for _, k := range keys {
		bounds = append(bounds, k, k+"\x00", k[:len(k)-1])
	}
	slices.Sort(bounds)
	for _, from := range slices.Compact(bounds) {
		for _, to := range slices.Compact(bounds) {
			for i := range 4 {
				list = append(list, storage.Range{From: from, To: to, Reverse: i&1 != 0, KeysOnly: i&2 != 0})
			}
		}
	}
	return list
}

// selected returns the keys that a range selects.
func selected(keys []string, r storage.Range) (list []string) {
	for _, k := range keys {
		if k >= r.From && (r.To == "" || k < r.To) {
			list = append(list, k)
		}
	}
	if r.Reverse {
		slices.Reverse(list)
	}
	return list
}

// errReader yields some bytes and then an error.
func errReader(content string, err error) io.Reader {
	return io.MultiReader(strings.NewReader(content), readerFunc(func([]byte) (int, error) { return 0, err }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// scribble overwrites bytes that a store was given, which are the caller's again.
func scribble(list ...[]byte) {
	for _, b := range list {
		copy(b, bytes.Repeat([]byte{0xff}, len(b)))
	}
}

// waitForClock returns when the clock shows another millisecond, and the time
// before.
func waitForClock() time.Time {
	start := time.Now()
	for time.Since(start) < 5*time.Millisecond {
		time.Sleep(time.Millisecond)
	}
	return start.Add(2 * time.Millisecond)
}
