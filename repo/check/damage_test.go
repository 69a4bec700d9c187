package check_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// damage is one thing that is not read from a store as it was written. Each function that is not
// nil changes one of its kind: the lists as they are read, in order.
type damage struct {
	list    func([]storage.RepoInfo) []storage.RepoInfo
	head    func(storage.Head) storage.Head
	commit  func([]byte) []byte
	records func([]storage.Record) []storage.Record
	byCID   func(storage.Record) (storage.Record, error)
	refs    func([]storage.BlobRef) []storage.BlobRef
	hasRef  func(bool) bool
	events  func([]storage.Event) []storage.Event
	bounds  func(oldest, newest int64) (int64, int64)
	stat    func(info storage.BlobInfo, promoted bool) (storage.BlobInfo, bool, error)
	content func([]byte) []byte
	blobs   func([]storage.BlobInfo) []storage.BlobInfo
}

// of changes a value, unless there is nothing to change it by.
func of[T any](fn func(T) T, v T) T {
	if fn == nil {
		return v
	}
	return fn(v)
}

func all[T any](seq iter.Seq2[T, error], fn func([]T) []T) iter.Seq2[T, error] {
	if fn == nil {
		return seq
	}
	return func(yield func(T, error) bool) {
		var list []T
		for v, err := range seq {
			if err != nil {
				yield(v, err)
				return
			}
			list = append(list, v)
		}
		for _, v := range fn(list) {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// spoiled is the store that damage makes of another.
func (d damage) spoiled(s storage.Store) storage.Store {
	return storage.Store{Repos: badRepos{s.Repos, d}, Events: badEvents{s.Events, d}, Blobs: badBlobs{s.Blobs, d}, KV: s.KV}
}

type badRepos struct {
	storage.Repos
	d damage
}

func (b badRepos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return all(b.Repos.List(ctx, after), b.d.list)
}

func (b badRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return b.Repos.View(ctx, did, func(r storage.Reader) error { return fn(badReader{r, b.d}) })
}

type badReader struct {
	storage.Reader
	d damage
}

func (b badReader) Head() storage.Head { return of(b.d.head, b.Reader.Head()) }

func (b badReader) Commit(ctx context.Context) ([]byte, error) {
	block, err := b.Reader.Commit(ctx)
	return of(b.d.commit, block), err
}

func (b badReader) Records(ctx context.Context, r storage.Range) iter.Seq2[storage.Record, error] {
	return all(b.Reader.Records(ctx, r), b.d.records)
}

func (b badReader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	rec, err := b.Reader.RecordByCID(ctx, c)
	if b.d.byCID != nil {
		return b.d.byCID(rec)
	}
	return rec, err
}

func (b badReader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return all(b.Reader.BlobRefs(ctx, after, since), b.d.refs)
}

func (b badReader) HasBlobRef(ctx context.Context, c cid.Cid) (bool, error) {
	ok, err := b.Reader.HasBlobRef(ctx, c)
	return of(b.d.hasRef, ok), err
}

type badEvents struct {
	storage.Events
	d damage
}

func (b badEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return all(b.Events.Since(ctx, seq), b.d.events)
}

func (b badEvents) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	oldest, newest, err = b.Events.Bounds(ctx)
	if b.d.bounds != nil {
		oldest, newest = b.d.bounds(oldest, newest)
	}
	return oldest, newest, err
}

type badBlobs struct {
	storage.Blobs
	d damage
}

func (b badBlobs) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	info, promoted, err := b.Blobs.Stat(ctx, did, c)
	if b.d.stat != nil {
		return b.d.stat(info, promoted)
	}
	return info, promoted, err
}

func (b badBlobs) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return all(b.Blobs.List(ctx, did, after), b.d.blobs)
}

func (b badBlobs) Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	r, info, err := b.Blobs.Open(ctx, did, c)
	if err != nil || b.d.content == nil {
		return r, info, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return nopCloser{bytes.NewReader(b.d.content(text))}, info, err
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// full is a store in memory with two accounts that have records, blobs and events of all kinds.
func full(t *testing.T) (storage.Store, check.Checker) {
	t.Helper()
	ctx := t.Context()
	s := memory.New(memory.Config{})
	keys := map[syntax.DID]crypto.Signer{}
	h := repo.NewHost(repo.Config{Store: s, Signer: func(_ context.Context, did syntax.DID) (crypto.Signer, error) { return keys[did], nil }})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, did := range []syntax.DID{"did:web:alice.example", "did:web:bob.example"} {
		key, err := crypto.GenerateKey(crypto.K256)
		must(err)
		keys[did] = key
		_, err = h.Create(ctx, did, repo.Batch{})
		must(err)
		for i := range 12 {
			value := map[string]any{"$type": "com.example.note", "text": fmt.Sprint(did, i)}
			if i%3 == 0 {
				info, err := h.UploadBlob(ctx, did, "text/plain", strings.NewReader(fmt.Sprint("blob ", did, i)), 0)
				must(err)
				value["blob"] = data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}.Value()
			}
			cbor, err := data.Encode(value)
			must(err)
			_, err = h.Apply(ctx, did, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: "com.example.note", RKey: syntax.RecordKey(fmt.Sprintf("r%02d", i)), Record: cbor}}})
			must(err)
		}
	}
	return s, check.Checker{Store: s, Key: func(_ context.Context, did syntax.DID) (*crypto.PublicKey, error) {
		return keys[did].PublicKey(), nil
	}}
}

// The ways to damage a list: at each place.

func without[T any](list []T, i int) []T { return slices.Delete(slices.Clone(list), i, i+1) }
func twice[T any](list []T, i int) []T   { return slices.Insert(slices.Clone(list), i, list[i]) }

func swapped[T any](list []T, i int) []T {
	list = slices.Clone(list)
	j := (i + 1) % len(list)
	list[i], list[j] = list[j], list[i]
	return list
}

func changed[T any](list []T, i int, fn func(*T)) []T {
	list = slices.Clone(list)
	fn(&list[i])
	return list
}

func flipped(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i%len(b)] ^= 1 << (i % 8)
	return b
}

var otherCID = data.CID([]byte{0xa0})

const otherRev = syntax.TID("7zzzzzzzzzzzz")

// eachKind are the ways in which what is read may be wrong, at the i-th place. Those of which a store
// that others write to may have some are found by a strict check alone.
func eachKind(i int) (sound, strict map[string]damage) {
	event := func(kind string, fn func(*commit.Event)) damage {
		return damage{events: func(l []storage.Event) []storage.Event {
			return changed(l, i%len(l), func(ev *storage.Event) {
				msg, err := commit.DecodeEvent(ev.Payload)
				if err != nil { // it is of another kind
					ev.Payload = nil
					return
				}
				fn(msg)
				ev.Payload = msg.Payload()
			})
		}}
	}
	record := func(fn func(*storage.Record)) damage {
		return damage{records: func(l []storage.Record) []storage.Record { return changed(l, i%len(l), fn) }}
	}
	ref := func(fn func(*storage.BlobRef)) damage {
		return damage{refs: func(l []storage.BlobRef) []storage.BlobRef { return changed(l, i%len(l), fn) }}
	}
	return map[string]damage{
			"list twice":   {list: func(l []storage.RepoInfo) []storage.RepoInfo { return twice(l, i%len(l)) }},
			"list swapped": {list: func(l []storage.RepoInfo) []storage.RepoInfo { return swapped(l, i%len(l)) }},
			"head commit":  {head: func(h storage.Head) storage.Head { h.Commit = otherCID; return h }},
			"head data":    {head: func(h storage.Head) storage.Head { h.Data = otherCID; return h }},
			"head rev":     {head: func(h storage.Head) storage.Head { h.Rev = otherRev; return h }},
			"commit bit":   {commit: func(b []byte) []byte { return flipped(b, i) }},
			"commit cut":   {commit: func(b []byte) []byte { return b[:i%len(b)] }},

			"record lost":    {records: func(l []storage.Record) []storage.Record { return without(l, i%len(l)) }},
			"record twice":   {records: func(l []storage.Record) []storage.Record { return twice(l, i%len(l)) }},
			"record swapped": {records: func(l []storage.Record) []storage.Record { return swapped(l, i%len(l)) }},
			"records lost":   {records: func(l []storage.Record) []storage.Record { return nil }},
			"record bit":     record(func(r *storage.Record) { r.Data = flipped(r.Data, i) }),
			"record cut":     record(func(r *storage.Record) { r.Data = r.Data[:i%len(r.Data)] }),
			"record path":    record(func(r *storage.Record) { r.Path += "x" }),
			"record no path": record(func(r *storage.Record) { r.Path = "" }),
			"record CID":     record(func(r *storage.Record) { r.CID = otherCID }),
			"record no CID":  record(func(r *storage.Record) { r.CID = cid.Undef }),
			"record later":   record(func(r *storage.Record) { r.Rev = otherRev }),
			"record no rev":  record(func(r *storage.Record) { r.Rev = "" }),
			"record no CBOR": record(func(r *storage.Record) { r.Data = []byte("no CBOR"); r.CID = data.CID(r.Data) }),
			"by CID none":    {byCID: func(storage.Record) (storage.Record, error) { return storage.Record{}, storage.ErrNotFound }},
			"by CID other":   {byCID: func(r storage.Record) (storage.Record, error) { r.CID = otherCID; return r, nil }},

			"reference lost":    {refs: func(l []storage.BlobRef) []storage.BlobRef { return without(l, i%len(l)) }},
			"references lost":   {refs: func(l []storage.BlobRef) []storage.BlobRef { return nil }},
			"reference twice":   {refs: func(l []storage.BlobRef) []storage.BlobRef { return twice(l, i%len(l)) }},
			"reference swapped": {refs: func(l []storage.BlobRef) []storage.BlobRef { return swapped(l, i%len(l)) }},
			"reference blob":    ref(func(r *storage.BlobRef) { r.Blob = otherCID }),
			"reference path":    ref(func(r *storage.BlobRef) { r.Path += "x" }),
			"reference record":  ref(func(r *storage.BlobRef) { r.Path = "com.example.note/r01" }),
			"reference rev":     ref(func(r *storage.BlobRef) { r.Rev = otherRev }),
			"not referred to":   {hasRef: func(bool) bool { return false }},

			"blob none": {stat: func(storage.BlobInfo, bool) (storage.BlobInfo, bool, error) {
				return storage.BlobInfo{}, false, storage.ErrNotFound
			}},
			"blob staged":   {stat: func(b storage.BlobInfo, _ bool) (storage.BlobInfo, bool, error) { return b, false, nil }},
			"blob bit":      {content: func(b []byte) []byte { return flipped(b, i) }},
			"blob cut":      {content: func(b []byte) []byte { return b[:i%len(b)] }},
			"blob longer":   {content: func(b []byte) []byte { return append(b, 0) }},
			"blob damaged":  {stat: func(b storage.BlobInfo, _ bool) (storage.BlobInfo, bool, error) { return b, false, storage.ErrCorrupt }},
			"event twice":   {events: func(l []storage.Event) []storage.Event { return twice(l, i%len(l)) }},
			"event swapped": {events: func(l []storage.Event) []storage.Event { return swapped(l, i%len(l)) }},
			"event DID": {events: func(l []storage.Event) []storage.Event {
				return changed(l, i%len(l), func(ev *storage.Event) { ev.DID = "did:web:z.example" })
			}},
			"event kind": {events: func(l []storage.Event) []storage.Event {
				return changed(l, i%len(l), func(ev *storage.Event) { ev.Kind = "#other" })
			}},
			"event cut": {events: func(l []storage.Event) []storage.Event {
				return changed(l, i%len(l), func(ev *storage.Event) { ev.Payload = ev.Payload[:i%len(ev.Payload)] })
			}},
			"event operation": event("op", func(e *commit.Event) {
				if len(e.Ops) == 0 {
					e.PrevData = otherCID
				} else {
					e.Ops = e.Ops[1:]
				}
			}),
			"event state":    event("prevData", func(e *commit.Event) { e.PrevData = otherCID }),
			"event revision": event("rev", func(e *commit.Event) { e.Rev = otherRev }),
			"event blocks":   event("blocks", func(e *commit.Event) { e.Blocks = flipped(e.Blocks, len(e.Blocks)-1-i%20) }),
			"bounds crossed": {bounds: func(_, newest int64) (int64, int64) { return newest + 2, newest }},
			"bounds before":  {bounds: func(int64, int64) (int64, int64) { return 1, 1 }},
			"bounds zero":    {bounds: func(_, newest int64) (int64, int64) { return 0, newest }},
		}, map[string]damage{
			"list stranger": {list: func(l []storage.RepoInfo) []storage.RepoInfo {
				return append(l, storage.RepoInfo{DID: "did:web:z.example"})
			}},
			"list lost": {list: func(l []storage.RepoInfo) []storage.RepoInfo { return without(l, i%len(l)) }},
			"list head": {list: func(l []storage.RepoInfo) []storage.RepoInfo {
				return changed(l, i%len(l), func(r *storage.RepoInfo) { r.Head.Rev = otherRev })
			}},
			// The first one may have been trimmed.
			"event lost":  {events: func(l []storage.Event) []storage.Event { return without(l, 1+i%(len(l)/2-1)) }},
			"event since": event("since", func(e *commit.Event) { e.Since = "2222222222222" }),
			"blob unused": {blobs: func(l []storage.BlobInfo) []storage.BlobInfo { return append(l, storage.BlobInfo{CID: otherCID}) }},
		}
}

// Whatever is read otherwise than it was written, the check says so; and what is as it was gives no
// problem.
func TestEveryKindOfDamageIsFound(t *testing.T) {
	s, c := full(t)
	checks := func(d damage, opt check.Options) (*check.Report, error) {
		c := c
		c.Store = d.spoiled(s)
		return c.Run(t.Context(), opt)
	}
	for _, opt := range []check.Options{{}, {Strict: true}} {
		if r, err := checks(damage{}, opt); err != nil || r.Found > 0 || r.Records != 24 || r.Blobs != 8 || r.Events == 0 {
			t.Fatalf("nothing wrong: %+v, %v", r, err)
		}
	}
	for _, i := range []int{0, 1, 2, 3, 5, 8, 13, 21, 34} {
		sound, strict := eachKind(i)
		for name, d := range sound {
			for _, opt := range []check.Options{{}, {Strict: true}} {
				if r, err := checks(d, opt); err != nil || r.Found == 0 {
					t.Errorf("%s at %d (strict: %v) is not found: %+v, %v", name, i, opt.Strict, r, err)
				}
			}
		}
		for name, d := range strict {
			if r, err := checks(d, check.Options{Strict: true}); err != nil || r.Found == 0 {
				t.Errorf("%s at %d is not found: %+v, %v", name, i, r, err)
			}
		}
	}
}

// An error of the store that is no damage ends the check, or is a problem of one account: it is
// never passed over.
func TestErrorsAreNotPassedOver(t *testing.T) {
	s, c := full(t)
	for name, d := range map[string]damage{
		"by CID": {byCID: func(storage.Record) (storage.Record, error) { return storage.Record{}, storage.ErrBusy }},
		"stat": {stat: func(storage.BlobInfo, bool) (storage.BlobInfo, bool, error) {
			return storage.BlobInfo{}, false, storage.ErrBusy
		}},
	} {
		c := c
		c.Store = d.spoiled(s)
		if r, err := c.Run(t.Context(), check.Options{}); err == nil && r.Found == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A revision from the future is a note, not a problem.
func TestAhead(t *testing.T) {
	_, c := full(t)
	c.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	r, err := c.Run(t.Context(), check.Options{})
	if err != nil || r.Found > 0 || r.Ahead != 2 || len(r.AheadAccounts) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	list, err := c.Ahead(t.Context(), nil)
	if err != nil || len(list) != 2 || list[0] != r.AheadAccounts[0] {
		t.Errorf("%+v, %v", list, err)
	}
	one, err := c.Account(t.Context(), "did:web:bob.example", check.Options{})
	if err != nil || one.Accounts != 1 || one.Ahead != 1 || one.Events != 0 {
		t.Errorf("%+v, %v", one, err)
	}
}
