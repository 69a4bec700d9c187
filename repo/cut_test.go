package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// notesHost returns a host with a repository of someone, and a function that adds a record with a
// text.
func notesHost(t *testing.T) (*Host, func(rkey, text string) Result) {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost(Config{Store: memory.New(memory.Config{}), TempDir: t.TempDir(), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	if _, err := h.Create(t.Context(), someone, Batch{}); err != nil {
		t.Fatal(err)
	}
	return h, func(rkey, text string) Result {
		t.Helper()
		rec, err := data.Encode(map[string]any{"$type": "com.example.note", "text": text})
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.Apply(t.Context(), someone, Batch{Writes: []Write{{Action: Create, Collection: "com.example.note", RKey: syntax.RecordKey(rkey), Record: rec}}})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
}

// readCounter is a snapshot that counts what is read, and can change it.
type readCounter struct {
	storage.Reader
	reads  *int
	change func(*storage.Record) error // nil: nothing
}

func (c readCounter) see(rec storage.Record, err error) (storage.Record, error) {
	if *c.reads++; c.change != nil && err == nil {
		err = c.change(&rec)
	}
	return rec, err
}

func (c readCounter) Record(ctx context.Context, path string) (storage.Record, error) {
	return c.see(c.Reader.Record(ctx, path))
}

func (c readCounter) RecordByCID(ctx context.Context, id cid.Cid) (storage.Record, error) {
	return c.see(c.Reader.RecordByCID(ctx, id))
}

func (c readCounter) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for rec, err := range c.Reader.Records(ctx, rng) {
			if !yield(c.see(rec, err)) {
				return
			}
		}
	}
}

var errCut = errors.New("the client is gone")

// cutWriter takes some bytes, and then says that the client is gone.
type cutWriter struct {
	left   int
	readAt *int // the number of reads
	reads  int  // of them, before the cut
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		w.reads = *w.readAt
		return 0, errCut
	}
	w.left -= len(b)
	return len(b), nil
}

// An export whose client leaves, wherever that is, ends with the client's error, and nothing more is
// read for it. So does one that finds other records than those of the tree.
func TestExportsThatAreCut(t *testing.T) {
	h, add := notesHost(t)
	var cids []cid.Cid
	var long Batch // paths that are longer than their records, so that most bytes are those of nodes
	for i := range 200 {
		rec, err := data.Encode(map[string]any{"$type": "com.example.note"})
		if err != nil {
			t.Fatal(err)
		}
		rkey := syntax.RecordKey(fmt.Sprintf("%03d", i) + strings.Repeat("x", 400))
		long.Writes = append(long.Writes, Write{Action: Create, Collection: "com.example.note", RKey: rkey, Record: rec})
	}
	if _, err := h.Apply(t.Context(), someone, long); err != nil {
		t.Fatal(err)
	}
	since := add("b", strings.Repeat("b", 40_000))
	for i := range 8 {
		cids = append(cids, add(fmt.Sprint("c", i), fmt.Sprint(i, strings.Repeat("c", 60_000))).Records[0].CID)
	}
	was, err := h.historySince(t.Context(), someone, since.Head.Rev)
	if err != nil || was.extent != covered {
		t.Fatal(was.extent, err)
	}
	head := was.head.Rev
	export := func(since syntax.TID, was history) func(storage.Reader, io.Writer) error {
		return func(r storage.Reader, w io.Writer) error { return h.export(t.Context(), someone, since, was, r, w) }
	}
	for name, c := range map[string]struct {
		export func(storage.Reader, io.Writer) error
		reads  int
	}{
		"whole":              {export("", history{}), 209},
		"since":              {export(since.Head.Rev, was), 8},
		"since, with no log": {export(since.Head.Rev, history{}), 209},
		"since the head":     {export(head, history{}), 0},
		"blocks": {func(r storage.Reader, w io.Writer) error {
			missing, err := h.exportBlocks(t.Context(), someone, r, cids, w)
			if len(missing) > 0 {
				t.Errorf("missing %v", missing)
			}
			return err
		}, 12}, // four of them twice
	} {
		reads := 0
		run := func(w io.Writer, change func(*storage.Record) error) error {
			reads = 0
			return h.View(t.Context(), someone, func(r storage.Reader) error {
				return c.export(readCounter{r, &reads, change}, w)
			})
		}
		var whole bytes.Buffer
		if err := run(&whole, nil); err != nil || reads != c.reads {
			t.Errorf("%s: %v, %d reads, want %d", name, err, reads, c.reads)
		}
		step := max(1, whole.Len()/40)
		for left := 0; left < whole.Len(); left += step {
			w := &cutWriter{left: left, readAt: &reads}
			if err := run(w, nil); err != errCut || reads != w.reads {
				t.Errorf("%s, cut after %d of %d bytes: %v, %d records were read, %d of them before", name, left, whole.Len(), err, reads, w.reads)
			}
		}
		errRead := errors.New("it cannot be read")
		for n := 1; n <= c.reads; n += max(1, c.reads/20) {
			err := run(io.Discard, func(*storage.Record) error {
				if reads == n {
					return errRead
				}
				return nil
			})
			if !errors.Is(err, errRead) || reads != n {
				t.Errorf("%s, read %d of %d fails: %v after %d reads", name, n, c.reads, err, reads)
			}
		}
		if name == "blocks" || c.reads == 0 {
			continue
		}
		for what, change := range map[string]func(*storage.Record) error{
			"of another value": func(rec *storage.Record) error { rec.CID = was.head.Commit; return nil },
			"of another path":  func(rec *storage.Record) error { rec.Path += "x"; return nil },
			"that is gone":     func(*storage.Record) error { return storage.ErrNotFound },
		} {
			if (name == "since") != (what == "that is gone") && what != "of another value" {
				continue // it alone asks for records by their paths
			}
			if err := run(io.Discard, change); !errors.Is(err, storage.ErrCorrupt) || reads != 1 {
				t.Errorf("%s, a record %s: %v after %d reads", name, what, err, reads)
			}
		}
	}
}

// Blocks that fit into what is kept are read once; one byte more, and one block is read again.
func TestBlocksThatAreKept(t *testing.T) {
	h, add := notesHost(t)
	size := func(text string) int {
		rec, err := data.Encode(map[string]any{"$type": "com.example.note", "text": text})
		if err != nil {
			t.Fatal(err)
		}
		return len(rec)
	}
	text := func(c string) string { return strings.Repeat(c, 100_000) }
	rest := keptBlocks - 2*size(text("a"))
	fits := strings.Repeat("c", rest-(size(text("c"))-100_000)+2) // a length of less bytes
	if size(fits) != rest {
		t.Fatal(size(fits), rest)
	}
	var cids []cid.Cid
	for i, text := range []string{text("a"), text("b"), fits, fits + "d"} {
		cids = append(cids, add(fmt.Sprint(i), text).Records[0].CID)
	}
	for want, list := range map[int][]cid.Cid{3: cids[:3], 4: {cids[0], cids[1], cids[3]}} {
		reads := 0
		err := h.View(t.Context(), someone, func(r storage.Reader) error {
			_, err := h.exportBlocks(t.Context(), someone, readCounter{r, &reads, nil}, list, io.Discard)
			return err
		})
		if err != nil || reads != want {
			t.Errorf("%d reads, want %d; %v", reads, want, err)
		}
	}
}

// Records need no tree to be found by their CIDs: none is built for them.
func TestBlocksOfRecordsNeedNoTree(t *testing.T) {
	h, add := notesHost(t)
	c := add("a", "first").Records[0].CID
	h.cache.drop(someone)
	if missing, err := h.ExportBlocks(t.Context(), someone, []cid.Cid{c}, io.Discard); err != nil || missing != nil {
		t.Error(missing, err)
	}
	if _, ok := h.cache.get(someone); ok {
		t.Error("a tree was built")
	}
}

// Proofs of paths that are none are refused.
func TestProofOfAnInvalidPath(t *testing.T) {
	h, _ := notesHost(t)
	if _, _, err := h.Proof(t.Context(), someone, "com.example.note", "a/b"); !errors.Is(err, mst.ErrInvalidKey) {
		t.Error(err)
	}
}

// Whoever forgets the reader or the writer is told so, at once.
func TestNothingToReadOrWrite(t *testing.T) {
	h, _ := notesHost(t)
	if err := h.Export(t.Context(), someone, "", nil); err != errNoWriter {
		t.Error(err)
	}
	if _, err := h.ExportBlocks(t.Context(), someone, nil, nil); err != errNoWriter {
		t.Error(err)
	}
	if _, err := h.Import(t.Context(), someone, nil, Import{Unverified: true}); err != errNoReader {
		t.Error(err)
	}
	if _, err := h.UploadBlob(t.Context(), someone, "text/plain", nil, 0); err != errNoReader {
		t.Error(err)
	}
}

// The bounds of an import hold exactly: of records, of the memory of their paths, and of bytes in
// the store.
func TestBoundsOfAnImport(t *testing.T) {
	h, _ := notesHost(t)
	path := func(length int) string { return "com.example.note/" + strings.Repeat("x", length-17) }
	content := []byte("record")
	cost := (&storage.RecordChange{Path: path(30), Data: content}).Cost()
	for name, c := range map[string]struct {
		lim     ImportLimits
		lengths []int
		ok      bool
	}{
		"as many records":      {ImportLimits{Records: 2, Expanded: 1 << 20}, []int{30, 30}, true},
		"one more":             {ImportLimits{Records: 2, Expanded: 1 << 20}, []int{30, 30, 30}, false},
		"as long a path":       {ImportLimits{Records: 2, Expanded: 1 << 20}, []int{usualPath + 2*recordBytes - 1}, true},
		"one character more":   {ImportLimits{Records: 2, Expanded: 1 << 20}, []int{usualPath + 2*recordBytes}, false},
		"as many bytes":        {ImportLimits{Records: 9, Expanded: 2 * cost}, []int{30, 30}, true},
		"one byte too little":  {ImportLimits{Records: 9, Expanded: 2*cost - 1}, []int{30, 30}, false},
		"two of three records": {ImportLimits{Records: 9, Expanded: 2 * cost}, []int{30, 30, 30}, false},
	} {
		v := verification{h: h, ctx: t.Context(), in: &Import{Limits: c.lim}}
		for i, length := range c.lengths {
			err := v.count(&commit.RepoRecord{Path: path(length), Data: content})
			if want := c.ok || i < len(c.lengths)-1; (err == nil) != want || (v.fatal == nil) != want {
				t.Errorf("%s: record %d: %v, %v", name, i, err, v.fatal)
			}
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, v := range map[string]verification{"gone": {ctx: gone}, "at an end": {ctx: t.Context(), fatal: errCut}} {
		if v.fault(errCut) || len(v.faults.Faults) != 0 {
			t.Errorf("%s: reading goes on", name)
		}
	}
	v := verification{h: h, ctx: gone, in: &Import{Limits: ImportLimits{Records: 9, Expanded: 1 << 20}}}
	if err := v.count(&commit.RepoRecord{Path: path(30)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// After a conflict, an import is tried again unless a condition of its own does not hold, or that
// cannot be told.
func TestConditionsAfterAConflict(t *testing.T) {
	h, _ := notesHost(t)
	if _, err := h.Apply(t.Context(), someone, Batch{KV: []storage.KVWrite{{Key: "a", Value: []byte("1")}, {Key: "empty", Value: []byte{}}}}); err != nil {
		t.Fatal(err)
	}
	is := func(key, value string) storage.KVCheck { return storage.KVCheck{Key: key, Value: []byte(value)} }
	none := func(key string) storage.KVCheck { return storage.KVCheck{Key: key} }
	for _, c := range []struct {
		checks []storage.KVCheck
		want   bool
	}{
		{nil, true},
		{[]storage.KVCheck{is("a", "1"), none("b"), is("empty", "")}, true},
		{[]storage.KVCheck{is("a", "2")}, false},
		{[]storage.KVCheck{is("a", "")}, false},
		{[]storage.KVCheck{none("a")}, false},
		{[]storage.KVCheck{is("b", "")}, false},
		{[]storage.KVCheck{is("b", "1")}, false},
		{[]storage.KVCheck{none("empty")}, false},
		{[]storage.KVCheck{is("a", "2"), is("a", "1")}, false},
		{[]storage.KVCheck{is("a", "1"), is("a", "2")}, false},
		{[]storage.KVCheck{none("a"), none("b")}, false},
	} {
		if got := h.stillSo(t.Context(), someone, c.checks); got != c.want {
			t.Errorf("%q: %v", c.checks, got)
		}
	}
	if h.stillSo(t.Context(), "did:web:nobody.test", nil) {
		t.Error("nobody's")
	}
}

// A tree that changes while it is rebuilt, again and again, is rebuilt in the reader's own snapshot in
// the end.
func TestTreeThatChangesWheneverItIsRebuilt(t *testing.T) {
	other, add := notesHost(t)
	store, views := other.store, 0
	store.Repos = movingRepos{store.Repos, func() { views++; add(fmt.Sprint(views), "x") }}
	h := NewHost(Config{Store: store, TempDir: t.TempDir(), Signer: other.signer})
	st, err := h.Stats(t.Context(), someone)
	head, _ := other.Head(t.Context(), someone)
	if err != nil || st.Head != head || st.Records != views || views != 2*treeTries+1 {
		t.Errorf("%+v after %d snapshots, the head is %v; %v", st, views, head, err)
	}
}

// movingRepos is a store in which another process is faster than each snapshot.
type movingRepos struct {
	storage.Repos
	move func()
}

func (m movingRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	m.move()
	return m.Repos.View(ctx, did, fn)
}

// Rows are found again by another version of this program: their form is part of the store's.
func TestRowsOfKeys(t *testing.T) {
	x := Index{Name: "tags"}
	long := strings.Repeat("x", maxIndexKey)
	for key, want := range map[string]string{
		"":           "index/tags/\x01",
		"a b":        "index/tags/a b\x01",
		"ä/":         "index/tags/ä/\x01",
		long:         "index/tags/" + long + "\x01",
		long + "x":   "index/tags/sha256:" + hexSum(long+"x") + "\x01",
		"a\x1fb":     "index/tags/sha256:" + hexSum("a\x1fb") + "\x01",
		"a\xffb":     "index/tags/sha256:" + hexSum("a\xffb") + "\x01",
		"index/\x01": "index/tags/sha256:" + hexSum("index/\x01") + "\x01",
	} {
		if got := x.rowPrefix(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
	for want, list := range map[bool][]syntax.NSID{true: {"a.b.c", "a.b.d"}, false: {"a.b.c"}} {
		x.Collections = list
		if x.has("a.b.d") != want || !x.has("a.b.c") {
			t.Errorf("an index of %v", list)
		}
	}
	if x.Collections = nil; !x.has("a.b.d") {
		t.Error("an index of all collections")
	}
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// An index is built from each of its collections, once.
func TestRangesOfIndexes(t *testing.T) {
	some := func(names ...syntax.NSID) Index { return Index{Collections: names} }
	a, b := storage.Prefix("a.b.a/"), storage.Prefix("a.b.b/")
	for want, list := range map[string][]Index{
		"[]":                              nil,
		fmt.Sprint([]storage.Range{a}):    {some("a.b.a")},
		fmt.Sprint([]storage.Range{a, b}): {some("a.b.b", "a.b.a"), some("a.b.b")},
		fmt.Sprint([]storage.Range{{}}):   {some("a.b.a"), some()},
	} {
		if got := fmt.Sprint((&indexSet{list: list}).ranges()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Whoever describes a blob wrongly is told what the blob has.
func TestWhatABlobHas(t *testing.T) {
	h, _ := notesHost(t)
	info, err := h.UploadBlob(t.Context(), someone, "text/plain", strings.NewReader("twelve bytes"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []BlobError{
		{Field: "size", Got: "16", Have: "12"},
		{Field: "mimeType", Got: "text/html", Have: "text/plain"},
	} {
		b := data.Blob{Ref: info.CID, MIME: "text/plain", Size: 12}
		if want.Field == "size" {
			b.Size = 16
		} else {
			b.MIME = "text/html"
		}
		rec, err := data.Encode(map[string]any{"$type": "com.example.note", "b": b.Value()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Apply(t.Context(), someone, Batch{Writes: []Write{{Action: Create, Collection: "com.example.note", RKey: "a", Record: rec}}})
		want.Ref, want.RecordPath = info.CID, "com.example.note/a"
		var got *BlobError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("%v, want %v", err, &want)
		}
	}
}

// Records that do not make the tree of the head are not served.
func TestRecordsThatMakeAnotherTree(t *testing.T) {
	h, add := notesHost(t)
	head := add("a", "first").Head
	reads := 0
	err := h.View(t.Context(), someone, func(r storage.Reader) error {
		_, err := rebuild(t.Context(), someone, readCounter{r, &reads, func(rec *storage.Record) error { rec.CID = head.Commit; return nil }})
		return err
	})
	if !errors.Is(err, storage.ErrCorrupt) || reads != 1 {
		t.Errorf("%v after %d reads", err, reads)
	}
}

// gatedRepos is a store whose snapshots wait.
type gatedRepos struct {
	storage.Repos
	views atomic.Int64
	gate  chan struct{}
}

func (g *gatedRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	g.views.Add(1)
	<-g.gate
	return g.Repos.View(ctx, did, fn)
}

// A reader that leaves takes a rebuild away from nobody: who waits goes on, and who comes joins.
func TestReaderThatLeavesARebuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other, _ := notesHost(t)
		store := other.store
		g := &gatedRepos{Repos: store.Repos, gate: make(chan struct{})}
		store.Repos = g
		h := NewHost(Config{Store: store, TempDir: t.TempDir(), Signer: other.signer})
		gone, cancel := context.WithCancel(t.Context())
		results := make(chan error, 3)
		read := func(ctx context.Context) {
			go func() {
				_, err := h.build(ctx, someone)
				results <- err
			}()
			synctest.Wait()
		}
		read(gone)
		read(t.Context())
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		read(t.Context())
		close(g.gate)
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := g.views.Load(); n != 1 {
			t.Errorf("%d rebuilds", n)
		}
	})
}
