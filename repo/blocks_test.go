package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// Blocks are exported by their CIDs, each once and in the order in which they were asked for, whether
// they fit into memory or not. If one of them is not there, nothing is written.
func TestExportBlocks(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
		fill(t, h, alice, 60)
		for i := range 4 { // three of which are more than is kept in memory
			apply(t, h, alice, map[string]string{}, one(repo.Create, keyN(1000+i), note(t, fmt.Sprint(i)+strings.Repeat("x", 100_000)), nil))
		}
		head, err := h.Head(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		_, whole := since(t, h, "")
		var cids []cid.Cid
		for c := range whole {
			cids = append(cids, c)
		}
		slices.SortFunc(cids, func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
		export := func(list []cid.Cid) (blocks []car.Block, missing []cid.Cid) {
			t.Helper()
			var file bytes.Buffer
			missing, err := h.ExportBlocks(ctx, alice, list, &file)
			if err != nil {
				t.Fatal(err)
			}
			if len(missing) > 0 {
				if file.Len() > 0 {
					t.Errorf("%d bytes beside %d missing blocks", file.Len(), len(missing))
				}
				return nil, missing
			}
			roots, blocks, err := car.ReadAll(file.Bytes(), car.Limits{})
			if err != nil || len(roots) != 0 {
				t.Errorf("roots %v, %v", roots, err)
			}
			return blocks, nil
		}
		check := func(what string, asked, want []cid.Cid) {
			t.Helper()
			blocks, missing := export(asked)
			var got []cid.Cid
			for _, b := range blocks {
				got = append(got, b.CID)
				if !bytes.Equal(b.Data, whole[b.CID]) {
					t.Errorf("%s: another block %s", what, b.CID)
				}
			}
			if missing != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %d blocks of %d, missing %v", what, len(got), len(want), missing)
			}
		}
		check("all", cids, cids)
		check("all twice", slices.Concat(cids, cids), cids)
		check("the commit", []cid.Cid{head.Commit}, []cid.Cid{head.Commit})
		check("the root", []cid.Cid{head.Data}, []cid.Cid{head.Data})
		check("none", nil, nil)
		backwards := slices.Clone(cids)
		slices.Reverse(backwards)
		check("backwards", backwards, backwards)
		var large []cid.Cid
		for _, c := range cids {
			if len(whole[c]) > 100_000 {
				large = append(large, c)
			}
		}
		for n := range large {
			check(fmt.Sprint(n+1, " large ones"), large[:n+1], large[:n+1])
		}
		strange := []cid.Cid{dag.Sum(dag.CBOR, []byte("a")), dag.Sum(dag.Raw, []byte("b"))}
		if _, missing := export(slices.Concat(strange[:1], cids, strange, cids)); !slices.Equal(missing, strange) {
			t.Errorf("missing %v, want %v", missing, strange)
		}
		if _, missing := export(strange[1:]); !slices.Equal(missing, strange[1:]) {
			t.Errorf("missing %v", missing)
		}
		if _, err := h.ExportBlocks(ctx, bob, cids, new(bytes.Buffer)); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("nobody's: %v", err)
		}
	})
}

// ListEach shows what List returns, whatever the page is, and ends at an error.
func TestListEachIsList(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		h := repo.NewHost(repo.Config{Store: store, Signer: (&keys{}).signer})
		fill(t, h, alice, 60)
		size := len(note(t, "note 10"))
		stop := errors.New("stop")
		for _, opt := range []repo.ListOptions{
			{}, {Limit: 7}, {Limit: 7, Reverse: true}, {Limit: 100}, {Bytes: 3 * size}, {Bytes: 3*size - 1}, {Bytes: 1}, {Bytes: -1, Limit: 100},
			{Cursor: keyN(20), Limit: 5}, {Cursor: keyN(20), Limit: 5, Reverse: true}, {Cursor: keyN(0)}, {Limit: 1}, {Limit: -1},
		} {
			want, err := h.List(ctx, alice, notes, opt)
			if err != nil {
				t.Fatal(err)
			}
			var got []storage.Record
			calls := 0
			err = h.View(ctx, alice, func(r storage.Reader) error {
				err := repo.ListEach(ctx, r, notes, opt, func(c storage.Cursor) error {
					got = append(got, storage.Record{Path: string(c.Path()), Data: bytes.Clone(c.Data()), Rev: c.Rev()})
					return nil
				})
				if err != nil {
					return err
				}
				return repo.ListEach(ctx, r, notes, opt, func(storage.Cursor) error { calls++; return stop })
			})
			if len(want) == 0 && err != nil || len(want) > 0 && (err != stop || calls != 1) {
				t.Errorf("%+v: %v, %d calls", opt, err, calls)
			}
			if !slices.EqualFunc(got, want, func(a, b storage.Record) bool {
				return a.Path == b.Path && bytes.Equal(a.Data, b.Data) && a.Rev == b.Rev
			}) {
				t.Errorf("%+v: %d records, List has %d", opt, len(got), len(want))
			}
		}
	})
}
