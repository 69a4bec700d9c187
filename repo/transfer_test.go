package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

func blobValue(ref, mime string, size int64) map[string]any {
	c, err := cid.Decode(ref)
	if err != nil {
		panic(err)
	}
	return data.Blob{Ref: c, MIME: mime, Size: size}.Value()
}

// fill makes a repository with n notes.
func fill(t *testing.T, h *repo.Host, did syntax.DID, n int) map[string]string {
	t.Helper()
	create(t, h, did)
	want := map[string]string{}
	for i := 0; i < n; i += 100 {
		var b repo.Batch
		for j := i; j < min(i+100, n); j++ {
			b.Writes = append(b.Writes, one(repo.Create, keyN(j), note(t, fmt.Sprint("note ", j)), nil).Writes...)
		}
		apply(t, h, did, want, b)
	}
	return want
}

// TestImport: an export goes in at another host, whatever the order of its
// blocks, with a later revision and a signature of its own; then writes go on.
func TestImport(t *testing.T) {
	k := &keys{}
	source := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	want := fill(t, source, alice, 500)
	var file bytes.Buffer
	if err := source.Export(ctx, alice, "", &file); err != nil {
		t.Fatal(err)
	}
	sourceHead, _ := source.Head(ctx, alice)
	roots, blocks, err := car.ReadAll(file.Bytes(), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	shuffled := func() []byte {
		var out bytes.Buffer
		w, err := car.NewWriter(&out, roots...)
		if err != nil {
			t.Fatal(err)
		}
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		stray := []byte{0xa1, 0x61, 'x', 0x01}
		for _, b := range append(blocks, blocks[3], car.Block{CID: dag.Sum(dag.CBOR, stray), Data: stray}) {
			if err := w.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for name, content := range map[string][]byte{"pre-order": file.Bytes(), "any order": shuffled()} {
		t.Run(name, func(t *testing.T) {
			stores(t, func(t *testing.T, store storage.Store) {
				k2 := &keys{}
				h := repo.NewHost(repo.Config{Store: store, Signer: k2.signer})
				res, err := h.Import(ctx, alice, bytes.NewReader(content), repo.Import{Keys: []*crypto.PublicKey{k.key(bob).PublicKey(), k.key(alice).PublicKey()}, Sync: true})
				if err != nil {
					t.Fatal(err)
				}
				if res.Head.Data != sourceHead.Data || res.Head.Rev <= sourceHead.Rev || res.Head.Commit == sourceHead.Commit {
					t.Errorf("head %v after import of %v", res.Head, sourceHead)
				}
				got := clone(want)
				apply(t, h, alice, got, one(repo.Delete, keyN(7), nil, nil))
				check(t, store, k2, map[syntax.DID]map[string]string{alice: got})

				// Again, over what has changed.
				if _, err := h.Import(ctx, alice, bytes.NewReader(content), repo.Import{Unverified: true, Sync: true}); err != nil {
					t.Fatal(err)
				}
				check(t, store, k2, map[syntax.DID]map[string]string{alice: want})
			})
		})
	}
}

// TestHostileImports: a file that is not the account's verified repository changes nothing.
func TestHostileImports(t *testing.T) {
	k := &keys{}
	source := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
	fill(t, source, alice, 50)
	fill(t, source, bob, 50)
	export := func(did syntax.DID) []byte {
		var file bytes.Buffer
		if err := source.Export(ctx, did, "", &file); err != nil {
			t.Fatal(err)
		}
		return file.Bytes()
	}
	good := export(alice)
	roots, blocks, err := car.ReadAll(good, car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	without := func(i int) []byte {
		var out bytes.Buffer
		w, _ := car.NewWriter(&out, roots...)
		for j, b := range blocks {
			if j != i {
				w.Write(b)
			}
		}
		w.Flush()
		return out.Bytes()
	}
	key := k.key(alice).PublicKey()
	tests := []struct {
		name string
		file []byte
		in   repo.Import
	}{
		{"empty", nil, repo.Import{Unverified: true}},
		{"no CAR", []byte("not a CAR"), repo.Import{Unverified: true}},
		{"another account's", export(bob), repo.Import{Unverified: true}},
		{"signed by another key", good, repo.Import{Keys: []*crypto.PublicKey{k.key(bob).PublicKey()}}},
		{"torn", good[:len(good)-1], repo.Import{Keys: []*crypto.PublicKey{key}}},
		{"with a changed byte", append(append([]byte{}, good[:len(good)-1]...), good[len(good)-1]^1), repo.Import{Unverified: true}},
		{"without its commit", without(0), repo.Import{Unverified: true}},
		{"without a node", without(1), repo.Import{Unverified: true}},
		{"without a record", without(len(blocks) - 1), repo.Import{Unverified: true}},
		{"larger than allowed", good, repo.Import{Unverified: true, Limits: repo.ImportLimits{CAR: car.Limits{TotalBytes: 1000}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stores(t, func(t *testing.T, store storage.Store) {
				h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
				want := fill(t, h, alice, 10)
				before, _ := h.Head(ctx, alice)
				if _, err := h.Import(ctx, alice, bytes.NewReader(tt.file), tt.in); !errors.Is(err, repo.ErrInvalidImport) {
					t.Errorf("error %v", err)
				}
				if after, err := h.Head(ctx, alice); err != nil || after != before {
					t.Errorf("head %v, was %v (%v)", after, before, err)
				}
				apply(t, h, alice, want, one(repo.Create, "after", note(t, "x"), nil))
				check(t, store, k, map[syntax.DID]map[string]string{alice: want})
			})
		})
	}
}

// TestExportSince: an export from a revision has the newer records and nodes, and nothing
// when there is nothing newer. A store that cannot find the events of an account gives all nodes.
func TestExportSince(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		want := fill(t, h, alice, 200)
		old, _ := h.Head(ctx, alice)
		res := apply(t, h, alice, want, one(repo.Create, "new", note(t, "new"), nil))
		export := func(since syntax.TID) map[cid.Cid][]byte {
			var file bytes.Buffer
			if err := h.Export(ctx, alice, since, &file); err != nil {
				t.Fatal(err)
			}
			_, blocks, err := car.ReadAll(file.Bytes(), car.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			m := map[cid.Cid][]byte{}
			for _, b := range blocks {
				m[b.CID] = b.Data
			}
			return m
		}
		newer := func(part map[cid.Cid][]byte) {
			t.Helper()
			if part[res.Head.Commit] == nil || part[res.Head.Data] == nil || part[res.Records[0].CID] == nil {
				t.Error("the newer blocks are missing")
			}
		}
		full, part := export(""), export(old.Rev)
		if newer(part); len(part) > 12 {
			t.Errorf("%d blocks, %d since %s", len(full), len(part), old.Rev)
		}
		store.Events = struct{ storage.Events }{store.Events}
		h = repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		part = export(old.Rev)
		if newer(part); len(full)-len(part) != 200 {
			t.Errorf("%d blocks, %d since %s", len(full), len(part), old.Rev)
		}
		if tree, err := mst.Load(mst.BlockMap(part), res.Head.Data, mst.Limits{}); err != nil || tree.IsEmpty() {
			t.Errorf("tree: %v", err)
		}
		if n := len(export(res.Head.Rev)); n != 0 {
			t.Errorf("%d blocks since the head", n)
		}
	})
}

// TestSlowDownload: a reader that stops does not keep the store from being written, and
// still gets the snapshot from when it began.
func TestSlowDownload(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
		create(t, h, alice)
		want := map[string]string{}
		for i := range 20 {
			apply(t, h, alice, want, one(repo.Create, keyN(i), note(t, strings.Repeat("x", 500_000)), nil))
		}
		r, w := io.Pipe()
		exported := make(chan error, 1)
		go func() {
			err := h.Export(ctx, alice, "", w)
			w.CloseWithError(err)
			exported <- err
		}()
		first := make([]byte, 1000)
		if _, err := io.ReadFull(r, first); err != nil {
			t.Fatal(err)
		}
		during := clone(want)
		apply(t, h, alice, want, one(repo.Create, "later", note(t, "y"), nil))
		rest, err := io.ReadAll(r)
		if err != nil || <-exported != nil {
			t.Fatal(err)
		}
		other := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
		if _, err := other.Import(ctx, alice, bytes.NewReader(append(first, rest...)), repo.Import{Unverified: true}); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		err = other.View(ctx, alice, func(r storage.Reader) error {
			for rec, err := range r.Records(ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				got[rec.Path] = rec.CID.String()
			}
			return nil
		})
		if diff := cmp.Diff(during, got); err != nil || diff != "" {
			t.Errorf("downloaded records: %v\n%s", err, diff)
		}
	})
}

// TestProof: getRecord's proof shows that a record is there, or that it is not.
func TestProof(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		want := fill(t, h, alice, 300)
		head, _ := h.Head(ctx, alice)
		for _, key := range []syntax.RecordKey{keyN(0), keyN(150), keyN(299), "absent", keyN(1000)} {
			root, blocks, err := h.Proof(ctx, alice, notes, key)
			if err != nil || root != head.Commit {
				t.Fatal(root, err)
			}
			m := mst.BlockMap{}
			for _, b := range blocks {
				m[b.CID] = b.Data
			}
			tree, err := mst.Open(m, head.Data, mst.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			path := string(notes) + "/" + string(key)
			value, ok, err := tree.Get(path)
			if err != nil || ok != (want[path] != "") || ok && (value.String() != want[path] || m[value] == nil) {
				t.Errorf("%s: %v %v %v, want %q", path, value, ok, err, want[path])
			}
		}
	})
}

// TestBlobs follows a blob through its life.
func TestBlobs(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, h, alice)
		create(t, h, bob)
		want := map[string]string{}
		info, err := h.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0)
		if err != nil || info.Size != 5 {
			t.Fatal(info, err)
		}
		if _, err := h.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 4); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		small := repo.NewHost(repo.Config{Store: store, Signer: k.signer, BlobQuota: func(_ context.Context, did syntax.DID) (int64, error) {
			return int64(len(did)) - int64(len(alice)) + 6, nil
		}})
		if _, err := small.UploadBlob(ctx, alice, "text/plain", strings.NewReader("ho"), 0); !errors.Is(err, storage.ErrQuota) {
			t.Errorf("beyond the quota: %v", err)
		}
		if _, err := small.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0); err != nil {
			t.Errorf("a blob that is there: %v", err)
		}
		with := func(mime string, size int64) []byte {
			return record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: info.CID, MIME: mime, Size: size}.Value()})
		}
		open := func(did syntax.DID) (string, error) {
			r, _, err := h.OpenBlob(ctx, did, info.CID)
			if err != nil {
				return "", err
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			return string(b), err
		}
		if _, err := open(alice); !errors.Is(err, repo.ErrBlobNotFound) {
			t.Errorf("a blob that nothing refers to: %v", err)
		}
		for _, bad := range [][]byte{with("image/png", 5), with("text/plain", 6)} {
			if _, err := h.Apply(ctx, alice, one(repo.Create, "a", bad, nil)); !errors.Is(err, repo.ErrInvalidBlob) {
				t.Errorf("a false description: %v", err)
			}
		}
		if _, err := h.Apply(ctx, bob, one(repo.Create, "a", with("text/plain", 5), nil)); !errors.Is(err, repo.ErrBlobNotFound) {
			t.Errorf("another account's blob: %v", err)
		}
		apply(t, h, alice, want, one(repo.Create, "a", with("text/plain", 5), nil))
		apply(t, h, alice, want, one(repo.Create, "b", with("text/plain", 5), nil))
		if text, err := open(alice); text != "hello" || err != nil {
			t.Errorf("blob: %q %v", text, err)
		}
		if _, err := open(bob); !errors.Is(err, repo.ErrBlobNotFound) {
			t.Errorf("through another account: %v", err)
		}
		later := time.Now().Add(time.Hour)
		apply(t, h, alice, want, one(repo.Delete, "a", nil, nil))
		if n, err := h.SweepBlobs(ctx, alice, later); n != 0 || err != nil {
			t.Errorf("swept %d while one record remains (%v)", n, err)
		}
		apply(t, h, alice, want, one(repo.Update, "b", note(t, "no blob"), nil))
		if _, err := open(alice); !errors.Is(err, repo.ErrBlobNotFound) {
			t.Errorf("after its last record: %v", err)
		}
		if n, err := h.SweepBlobs(ctx, alice, later); n != 1 || err != nil {
			t.Errorf("swept %d (%v)", n, err)
		}
		check(t, store, k, map[syntax.DID]map[string]string{alice: want, bob: {}})

		// A repository that comes with a reference to a blob that does not.
		legacy := record(t, map[string]any{"$type": string(notes), "avatar": map[string]any{"cid": info.CID.String(), "mimeType": "text/plain"}})
		source := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: k.signer})
		create(t, source, alice)
		apply(t, source, alice, map[string]string{}, one(repo.Create, "old", legacy, nil))
		var file bytes.Buffer
		if err := source.Export(ctx, alice, "", &file); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Import(ctx, alice, &file, repo.Import{Unverified: true, Sync: true}); err != nil {
			t.Fatal(err)
		}
		missing, _, err := h.MissingBlobs(ctx, alice, cid.Undef, 10)
		if err != nil || len(missing) != 1 || missing[0].Blob != info.CID {
			t.Errorf("missing blobs: %v %v", missing, err)
		}
		if _, err := h.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0); err != nil {
			t.Fatal(err)
		}
		if missing, _, err := h.MissingBlobs(ctx, alice, cid.Undef, 10); err != nil || len(missing) != 0 {
			t.Errorf("missing blobs after the upload: %v %v", missing, err)
		}
		if text, err := open(alice); text != "hello" || err != nil {
			t.Errorf("blob after the upload: %q %v", text, err)
		}
	})
}
