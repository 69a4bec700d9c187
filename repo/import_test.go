package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// madeRepo is a repository that nobody has checked: its blocks in pre-order, after the commit.
func madeRepo(t testing.TB, did syntax.DID, key *crypto.PrivateKey, rev syntax.TID, records map[string]car.Block) (root cid.Cid, blocks []car.Block) {
	t.Helper()
	var entries []mst.Entry
	for _, path := range slices.Sorted(maps.Keys(records)) {
		entries = append(entries, mst.Entry{Key: path, Value: records[path].CID})
	}
	tree, err := mst.BuildSorted(entries)
	if err != nil {
		t.Fatal(err)
	}
	_, block, err := commit.Sign(ctx, did, rev, tree.Root(), key)
	if err != nil {
		t.Fatal(err)
	}
	blocks = append(blocks, block)
	for item, err := range tree.PreOrder() {
		if err != nil {
			t.Fatal(err)
		}
		if item.Node.CID.Defined() {
			blocks = append(blocks, item.Node)
		} else {
			blocks = append(blocks, records[item.Key])
		}
	}
	return block.CID, blocks
}

// file puts blocks into a CAR file, each once.
func file(root cid.Cid, blocks []car.Block) []byte {
	seen := map[cid.Cid]bool{}
	blocks = slices.DeleteFunc(slices.Clone(blocks), func(b car.Block) bool {
		again := seen[b.CID]
		seen[b.CID] = true
		return again
	})
	return car.Append(nil, []cid.Cid{root}, blocks...)
}

func block(data []byte) car.Block { return car.Block{CID: dag.Sum(dag.CBOR, data), Data: data} }

var aTime = syntax.NewTID(time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), 1)

// refused imports a file, which must change nothing, and returns the faults.
func refused(t *testing.T, content []byte, in repo.Import) *repo.ImportError {
	t.Helper()
	k := &keys{}
	writes := 0
	store := memory.New(memory.Config{})
	store.Repos = watched{Repos: store.Repos, replace: func() { writes++ }}
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
	create(t, h, alice)
	before, _ := h.Head(ctx, alice)
	_, err := h.Import(ctx, alice, bytes.NewReader(content), in)
	var faults *repo.ImportError
	if !errors.Is(err, repo.ErrInvalidImport) || !errors.As(err, &faults) {
		t.Fatalf("error %v", err)
	}
	if after, _ := h.Head(ctx, alice); after != before || writes != 0 {
		t.Errorf("a refused file reached the store (%d times)", writes)
	}
	return faults
}

// watched is a store that tells of calls of Replace.
type watched struct {
	storage.Repos
	replace func()
}

func (w watched) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	w.replace()
	return w.Repos.Replace(ctx, did, records, final)
}

// TestExpandingImports: a small file that stands for a large store is refused before anything is
// written, whatever it is that grows.
func TestExpandingImports(t *testing.T) {
	k := &keys{}
	large := block(note(t, strings.Repeat("x", 999_000)))
	small := block(note(t, "x"))
	many := func(n int, path func(i int) string, b car.Block) []byte {
		records := map[string]car.Block{}
		for i := range n {
			records[path(i)] = b
		}
		return file(madeRepo(t, alice, k.key(alice), aTime, records))
	}
	short := func(i int) string { return fmt.Sprintf("com.example.note/%06d", i) }
	long := func(i int) string {
		return "com.example.note/" + strings.Repeat("x", 480) + fmt.Sprintf("%06d", i)
	}
	unlike := func(i int) string { // nothing of it is shared with the path before
		return fmt.Sprintf("com.x%06d.note/%s", i, strings.Repeat(fmt.Sprintf("%06d", i), 80))
	}
	var blobs []any
	for i := range 200 {
		blobs = append(blobs, data.Blob{Ref: dag.Sum(dag.Raw, fmt.Append(nil, i)), MIME: "a/b", Size: 1}.Value())
	}
	referring := block(record(t, map[string]any{"$type": string(notes), "blobs": blobs}))
	for _, tt := range []struct {
		name string
		file []byte
		lim  repo.ImportLimits
		most int // bytes of the file
	}{
		{"a large record under 300 paths", many(300, short, large), repo.ImportLimits{}, 1_100_000},
		{"a record under many paths", many(4000, short, small), repo.ImportLimits{Expanded: 400_000}, 400_000},
		{"long paths", many(3000, long, small), repo.ImportLimits{Expanded: 2_000_000}, 700_000},
		{"references to blobs", many(200, short, referring), repo.ImportLimits{Expanded: 500_000 * 9}, 100_000},
		{"paths that take more memory than records", many(300, unlike, small), repo.ImportLimits{Records: 1000}, 200_000},
		{"many records", many(1001, short, small), repo.ImportLimits{Records: 1000}, 200_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.file) > tt.most {
				t.Fatalf("the file has %d bytes", len(tt.file))
			}
			e := refused(t, tt.file, repo.Import{Unverified: true, Limits: tt.lim})
			if len(e.Faults) != 1 || !strings.Contains(e.Error(), "more than") {
				t.Error(e)
			}
		})
	}
	// There may be as many records as the limit says.
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	if _, err := h.Import(ctx, alice, bytes.NewReader(many(1000, short, small)), repo.Import{Unverified: true, Limits: repo.ImportLimits{Records: 1000}}); err != nil {
		t.Error(err)
	}
	// Records that are the same now and then are no bomb.
	h = repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	if _, err := h.Import(ctx, alice, bytes.NewReader(many(2000, short, small)), repo.Import{Unverified: true}); err != nil {
		t.Error(err)
	}
}

// TestImportNeedsKeys: whoever says nothing about signatures is told so, before anything is read.
func TestImportNeedsKeys(t *testing.T) {
	k := &keys{}
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	unread := readerFunc(func([]byte) (int, error) {
		t.Error("the file was read")
		return 0, io.EOF
	})
	for _, in := range []repo.Import{{}, {Sync: true}, {Unverified: true, Keys: []*crypto.PublicKey{k.key(alice).PublicKey()}}} {
		if _, err := h.Import(ctx, alice, unread, in); !errors.Is(err, repo.ErrImportKeys) {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestImportsAtOnce: one import of an account and a few of all are worked on; others wait for a
// bounded time, or until their context ends.
func TestImportsAtOnce(t *testing.T) {
	k := &keys{}
	export := func(did syntax.DID) []byte {
		return file(madeRepo(t, did, k.key(did), aTime, map[string]car.Block{string(notes) + "/a": block(note(t, "x"))}))
	}
	in := repo.Import{Unverified: true}
	newHost := func(wait time.Duration, replace func()) *repo.Host {
		store := memory.New(memory.Config{})
		store.Repos = watched{store.Repos, replace}
		return repo.NewHost(repo.Config{Store: store, Signer: k.signer, Imports: 1, ImportWait: wait, TempDir: t.TempDir()})
	}
	ended := func(h *repo.Host, did syntax.DID, when string) {
		t.Helper()
		stopped, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := h.Import(stopped, did, bytes.NewReader(export(did)), in); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, whose context ends: %v", when, err)
		}
	}

	t.Run("of one account", func(t *testing.T) {
		for _, wait := range []time.Duration{time.Hour, time.Millisecond} {
			h := newHost(wait, func() {})
			r, w := io.Pipe()
			first := make(chan error, 1)
			go func() {
				_, err := h.Import(ctx, alice, r, in)
				first <- err
			}()
			half := export(alice)
			if _, err := w.Write(half[:10]); err != nil { // it is under way now
				t.Fatal(err)
			}
			if wait == time.Hour {
				ended(h, alice, "a second import")
			} else if _, err := h.Import(ctx, alice, bytes.NewReader(export(alice)), in); !errors.Is(err, repo.ErrBusy) {
				t.Errorf("a second import: %v", err)
			}
			// One that uploads keeps no other account waiting.
			if _, err := h.Import(ctx, bob, bytes.NewReader(export(bob)), in); err != nil {
				t.Errorf("another account's: %v", err)
			}
			if _, err := w.Write(half[10:]); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if err := <-first; err != nil {
				t.Error(err)
			}
			if _, err := h.Import(ctx, alice, bytes.NewReader(export(alice)), in); err != nil {
				t.Errorf("when the first has ended: %v", err)
			}
		}
	})
	t.Run("of a host", func(t *testing.T) {
		for _, wait := range []time.Duration{time.Hour, time.Millisecond} {
			entered, goOn := make(chan struct{}), make(chan struct{})
			h := newHost(wait, func() {
				entered <- struct{}{}
				<-goOn
			})
			first := make(chan error, 1)
			go func() {
				_, err := h.Import(ctx, alice, bytes.NewReader(export(alice)), in)
				first <- err
			}()
			<-entered
			if wait == time.Hour {
				ended(h, bob, "a second import")
			} else if _, err := h.Import(ctx, bob, bytes.NewReader(export(bob)), in); !errors.Is(err, repo.ErrBusy) {
				t.Errorf("a second import: %v", err)
			}
			close(goOn)
			if err := <-first; err != nil {
				t.Error(err)
			}
			go func() { <-entered }()
			if _, err := h.Import(ctx, bob, bytes.NewReader(export(bob)), in); err != nil {
				t.Errorf("when the first has ended: %v", err)
			}
		}
	})
}

// legacyRecords are records from before the data model, and one of today.
func legacyRecords(t *testing.T) map[string]car.Block {
	blob := "\xd8\x2a\x58\x25\x00" + dag.Sum(dag.Raw, []byte("blob")).KeyString()
	records := map[string]car.Block{}
	for name, content := range map[string]string{
		"float":      "\xa1\x61x\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00",
		"integer":    "\xa1\x61x\x1b\x00\x20\x00\x00\x00\x00\x00\x00",
		"great":      "\xa1\x61x\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
		"indefinite": "\xbf\x61x\x9f\x01\xff\xff",
		"order":      "\xa2\x61y\x01\x61x\x02",
		"tag":        "\xa1\x61x\xc1\x1a\x51\x4b\x67\xb0",
		"undefined":  "\xa1\x61x\xf7",
		"nan":        "\xa1\x61x\xf9\x7e\x00",
		"infinite":   "\xa1\x61x\xfa\xff\x80\x00\x00",
		"twice":      "\xa2\x61x\x01\x61x\x02",
		"numbered":   "\xa2\x01\x02\x20\x61x",
		"listkey":    "\xa1\x81\x01\x02",
		"nullkey":    "\xa1\xf6\xf6",
		"latin1":     "\xa1\x61x\x61\xff",
		"latin1key":  "\xa1\x61\xff\x01",
		"chunks":     "\xa1\x61x\x7f\x61a\x61b\xff",
		"lowest":     "\xa1\x61x\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
		"bignum":     "\xa1\x61x\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		"simple":     "\xa1\x61x\xf8\xff",
		"nolink":     "\xa1\x61x\xd8\x2a\x41\x00",
		"long":       "\xb8\x01\x78\x01x\x18\x01",
		"deep":       "\xa1\x61x" + strings.Repeat("\x81", 200) + "\xf6",
		"blob":       "\xa2\x61x\xa4\x63ref" + blob + "\x64size\x05\x65$type\x64blob\x68mimeType\x69image/png\x61y\xf9\x3e\x00",
	} {
		records[string(notes)+"/"+name] = block([]byte(content))
	}
	records[string(notes)+"/today"] = block(note(t, "today"))
	return records
}

// TestImportOfLegacyRecords: records from before the data model are kept byte for byte, counted,
// and exported again as they were; their references to blobs are found. New ones are refused.
func TestImportOfLegacyRecords(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		records := legacyRecords(t)
		root, blocks := madeRepo(t, alice, k.key(alice), aTime, records)
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		res, err := h.Import(ctx, alice, bytes.NewReader(file(root, blocks)), repo.Import{Unverified: true, Sync: true})
		if err != nil || res.Legacy != len(records)-1 {
			t.Fatalf("%d legacy records of %d, %v", res.Legacy, len(records), err)
		}
		var out bytes.Buffer
		if err := h.Export(ctx, alice, "", &out); err != nil {
			t.Fatal(err)
		}
		_, exported, err := car.ReadAll(out.Bytes(), car.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		// All but the commit, which has another signature.
		if diff := cmp.Diff(blocks[1:], exported[1:], cmp.Comparer(func(a, b cid.Cid) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		missing, _, err := h.MissingBlobs(ctx, alice, cid.Undef, 10)
		if err != nil || len(missing) != 1 || missing[0].Path != string(notes)+"/blob" {
			t.Errorf("missing blobs %v, %v", missing, err)
		}
		if _, err := h.UploadBlob(ctx, alice, "image/png", strings.NewReader("blob"), 0); err != nil {
			t.Fatal(err)
		}
		blob, _, err := h.OpenBlob(ctx, alice, dag.Sum(dag.Raw, []byte("blob")))
		if err != nil {
			t.Fatal(err)
		}
		blob.Close()
		for path, rec := range records {
			collection, rkey, err := syntax.ParsePath(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.Record(ctx, alice, collection, rkey)
			if err != nil || !bytes.Equal(got.Data, rec.Data) {
				t.Errorf("%s: %x, %v", path, got.Data, err)
			}
			if text, err := data.AppendRecordJSON(nil, got.Data); err != nil || !json.Valid(text) || !utf8.Valid(text) {
				t.Errorf("%s: %q, %v", path, text, err)
			}
			if rkey == "today" || rkey == "integer" { // 64 bits are allowed, JSON has 53 only
				continue
			}
			if _, err := h.Apply(ctx, alice, one(repo.Put, "new", rec.Data, nil)); !errors.Is(err, repo.ErrInvalidRecord) {
				t.Errorf("%s as a new record: %v", path, err)
			}
		}
		// Life goes on, and a second import of the same is one.
		if _, err := h.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Update, Collection: notes, RKey: "nan", Record: note(t, "a number")}, {Action: repo.Put, Collection: notes, RKey: "twice", Record: note(t, "once")}}}); err != nil {
			t.Error(err)
		}
		if _, err := h.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{{Action: repo.Delete, Collection: notes, RKey: "float"}}}); err != nil {
			t.Error(err)
		}
		if res, err := h.Import(ctx, alice, bytes.NewReader(out.Bytes()), repo.Import{Keys: []*crypto.PublicKey{k.key(alice).PublicKey()}}); err != nil || res.Legacy != len(records)-1 {
			t.Errorf("%d legacy records, %v", res.Legacy, err)
		}
	})
}

// TestAllFaultsOfAnImport: all faults of a file are listed, up to a hundred.
func TestAllFaultsOfAnImport(t *testing.T) {
	k := &keys{}
	records := map[string]car.Block{}
	var want []string
	for i := range 40 {
		path := fmt.Sprintf("%s/%03d", notes, i)
		switch i % 8 {
		case 0:
			records[path] = block([]byte("\xa1\x61x")) // cut off
		case 1:
			records[path] = block([]byte("\x80")) // no map
		case 2:
			raw := note(t, fmt.Sprint(i))
			records[path] = car.Block{CID: dag.Sum(dag.Raw, raw), Data: raw}
		case 3:
			path = fmt.Sprintf("nonsid/%03d", i)
			records[path] = block(note(t, fmt.Sprint(i)))
		default:
			records[path] = block(note(t, fmt.Sprint(i)))
			continue
		}
		want = append(want, path)
	}
	root, blocks := madeRepo(t, bob, k.key(bob), syntax.NewTID(time.Now(), 1), records)
	// A record is missing, and one is damaged.
	gone, damaged := records[string(notes)+"/004"], records[string(notes)+"/005"]
	for i, b := range blocks {
		if b.CID == damaged.CID {
			blocks[i].Data = append([]byte("x"), b.Data...)
		}
	}
	blocks = slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID == gone.CID })
	want = append(want, "/004", damaged.CID.String(), string(bob), "not signed")
	e := refused(t, file(root, blocks), repo.Import{Keys: []*crypto.PublicKey{k.key(alice).PublicKey()}})
	for _, text := range want {
		if !slices.ContainsFunc(e.Faults, func(err error) bool { return strings.Contains(err.Error(), text) }) {
			t.Errorf("%s is not among the faults", text)
		}
	}
	if !errors.Is(e, car.ErrHash) || !errors.Is(e, data.ErrNotObject) || e.More != 0 {
		t.Error(e)
	}
	if t.Failed() {
		for _, err := range e.Faults {
			t.Log(err)
		}
	}

	for i := range 150 {
		records[fmt.Sprintf("%s/more%03d", notes, i)] = block([]byte{0x80, byte(i)})
	}
	e = refused(t, file(madeRepo(t, alice, k.key(alice), aTime, records)), repo.Import{Unverified: true})
	if len(e.Faults) != 100 || e.More < 50 || len(e.Error()) > 15_000 {
		t.Errorf("%d faults, and %d more, in %d bytes", len(e.Faults), e.More, len(e.Error()))
	}
}

// TestMemoryOfAnImport: memory does not grow with the file, in whatever order its blocks are.
func TestMemoryOfAnImport(t *testing.T) {
	if testing.Short() {
		t.Skip("imports a large repository")
	}
	k := &keys{}
	records := map[string]car.Block{}
	for i := range 150_000 {
		records[fmt.Sprintf("com.example.note/%08d", i)] = block([]byte{0xa1, 0x61, 'x', 0x1a, 1, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	root, blocks := madeRepo(t, alice, k.key(alice), aTime, records)
	rand.New(rand.NewPCG(4, 4)).Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	content := file(root, blocks)
	records, blocks = nil, nil
	_, _ = records, blocks
	heap := func() int64 {
		runtime.GC()
		var st runtime.MemStats
		runtime.ReadMemStats(&st)
		return int64(st.HeapAlloc)
	}
	var peak int64
	store := memory.New(memory.Config{})
	store.Repos = countingStore{store.Repos, func(n int) {
		if n%10_000 == 0 {
			peak = max(peak, heap())
		}
	}}
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
	base := heap() - int64(len(content)) // which is garbage once it was spooled
	if _, err := h.Import(ctx, alice, bytes.NewReader(content), repo.Import{Unverified: true}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MB of blocks, %.1f MB of memory", len(content)>>20, float64(peak-base)/(1<<20))
	if used := peak - base; used > 24<<20 {
		t.Errorf("%d bytes of memory for a file of %d", used, len(content))
	}
}

// countingStore is a store that keeps nothing of a Replace but counts its records.
type countingStore struct {
	storage.Repos
	record func(n int)
}

func (c countingStore) Replace(_ context.Context, _ syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	n := 0
	for _, err := range records {
		if err != nil {
			return 0, err
		}
		n++
		c.record(n)
	}
	_, err := final()
	return 0, err
}

// The files that say where an import's blocks are count towards the bound of temporary files: a
// file of tiny blocks needs more for them than it is long.
func TestIndexOfAnImportCountsAsSpooled(t *testing.T) {
	var k keys
	tiny := make([]car.Block, 150_000)
	for i := range tiny {
		tiny[i] = block([]byte{0x1a, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
	}
	content := file(block([]byte{0xa0}).CID, tiny) // the root is not in it
	for _, test := range []struct {
		limit int64
		want  error
	}{{16_000_000, repo.ErrBusy}, {64_000_000, repo.ErrInvalidImport}} {
		dir := t.TempDir()
		h := repo.NewHost(repo.Config{Store: memoryStore(), Signer: k.signer, TempDir: dir, SpoolBytes: test.limit})
		_, err := h.Import(ctx, alice, bytes.NewReader(content), repo.Import{Unverified: true})
		if !errors.Is(err, test.want) {
			t.Errorf("with room for %d bytes: %v", test.limit, err)
		}
		if left, _ := os.ReadDir(dir); h.SpoolBytes() != 0 || len(left) > 0 {
			t.Errorf("%d bytes and files %v are left", h.SpoolBytes(), left)
		}
	}
}

// TestImportWithoutBounds: limits as large as there are do not overflow into small ones.
func TestImportWithoutBounds(t *testing.T) {
	k := &keys{}
	content := file(madeRepo(t, alice, k.key(alice), aTime, map[string]car.Block{"com.example.note/" + strings.Repeat("x", 400): block(note(t, "x"))}))
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	for _, lim := range []repo.ImportLimits{{}, {Expanded: math.MaxInt64}, {Records: math.MaxInt}, {Expanded: math.MaxInt64, Records: math.MaxInt}} {
		if _, err := h.Import(t.Context(), alice, bytes.NewReader(content), repo.Import{Unverified: true, Limits: lim}); err != nil {
			t.Errorf("%+v: %v", lim, err)
		}
	}
}
