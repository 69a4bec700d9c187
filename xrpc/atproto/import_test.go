package atproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc"
)

// TestUnverifiedImports: a service that knows no keys takes no imports, unless it is told to.
func TestUnverifiedImports(t *testing.T) {
	from := newWorld(t)
	from.note(alice, "a", "a")
	export := from.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "").body
	noKeys := func(context.Context, syntax.DID) ([]*crypto.PublicKey, error) { return nil, nil }
	for _, tt := range []struct {
		name       string
		keys       func(context.Context, syntax.DID) ([]*crypto.PublicKey, error)
		unverified bool
		status     int
		error      string
	}{
		{"the zero value", nil, false, 501, "MethodNotImplemented"},
		{"no keys", noKeys, false, 400, "InvalidRequest"},
		{"other keys", from.svc.ImportKeys, true, 400, "InvalidRequest"},
		{"no keys, unverified", noKeys, true, 200, ""},
		{"nothing but unverified", nil, true, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.svc.ImportKeys, w.svc.UnverifiedImports, w.srv = tt.keys, tt.unverified, nil
			if tt.name == "other keys" {
				w.svc.ImportKeys = func(context.Context, syntax.DID) ([]*crypto.PublicKey, error) {
					key, err := crypto.GenerateKey(crypto.K256)
					if err != nil {
						t.Fatal(err)
					}
					return []*crypto.PublicKey{key.PublicKey()}, nil
				}
			}
			w.send(alice, "POST", "com.atproto.repo.importRepo", nil, "application/vnd.ipld.car", export).want(t, tt.status, tt.error)
		})
	}
}

// TestImportOfLegacyRecords: records from before the data model are imported, counted for the log
// and served as JSON.
func TestImportOfLegacyRecords(t *testing.T) {
	w := newWorld(t)
	w.svc.ImportKeys, w.svc.UnverifiedImports, w.legacy = nil, true, true
	records := map[string][]byte{
		"float":   []byte("\xa1\x61x\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
		"integer": []byte("\xa1\x61x\x1b\x00\x20\x00\x00\x00\x00\x00\x00"),
		"order":   []byte("\xa2\x61y\x01\x61x\x02"),
		"today":   []byte("\xa1\x61x\x01"),

		"nan":      []byte("\xa1\x61x\xf9\x7e\x00"),
		"great":    []byte("\xa1\x61x\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
		"tag":      []byte("\xa1\x61x\xc1\x1a\x51\x4b\x67\xb0"),
		"chunks":   []byte("\xbf\x61x\x7f\x61a\x61b\xff\xff"),
		"twice":    []byte("\xa2\x61x\x01\x61x\x02"),
		"latin1":   []byte("\xa1\x61x\x61\xff"),
		"numbered": []byte("\xa2\x01\x02\x20\xf7"),
	}
	tree := mst.Empty()
	var blocks []car.Block
	var ops []mst.Op
	for name, content := range records {
		b := car.Block{CID: dag.Sum(dag.CBOR, content), Data: content}
		blocks = append(blocks, b)
		ops = append(ops, mst.Op{Key: note + "/" + name, Value: b.CID})
	}
	change, err := tree.Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	_, block, err := commit.Sign(t.Context(), alice, syntax.NewTID(time.Now(), 1), change.Root, key)
	if err != nil {
		t.Fatal(err)
	}
	file := car.Append(nil, []cid.Cid{block.CID}, append(append(blocks, change.New...), block)...)
	var notes []slog.Attr
	w.srv = &xrpc.Server{Catalog: schemas, Observe: func(r *xrpc.Request, _ int, _ time.Duration) {
		if r.NSID == "com.atproto.repo.importRepo" {
			notes = r.Notes
		}
	}}
	w.svc.Mount(w.srv)
	w.send(alice, "POST", "com.atproto.repo.importRepo", nil, "application/vnd.ipld.car", file).want(t, 200, "")
	if len(notes) != 1 || notes[0].String() != "legacyRecords=10" {
		t.Errorf("notes %v", notes)
	}
	for name, want := range map[string]string{"float": `{"x":1.5}`, "integer": `{"x":9007199254740992}`, "order": `{"y":1,"x":2}`, "today": `{"x":1}`,
		"nan": `{"x":null}`, "great": `{"x":18446744073709551615}`, "tag": `{"x":1363896240}`, "chunks": `{"x":"ab"}`, "twice": `{"x":2}`, "latin1": "{\"x\":\"\ufffd\"}", "numbered": `{"1":2,"-1":null}`} {
		c := dag.Sum(dag.CBOR, records[name]).String()
		w.call("", "com.atproto.sync.getRecord", q("did", alice, "collection", note, "rkey", name), nil).want(t, 200, "").says(t, string(records[name]))
		w.call("", "com.atproto.sync.getBlocks", q("did", alice, "cids", c), nil).want(t, 200, "").says(t, string(records[name]))
		w.call("", "com.atproto.repo.getRecord", q("repo", alice, "collection", note, "rkey", name, "cid", c), nil).want(t, 200, "").says(t, want)
		w.call("", "com.atproto.repo.getRecord", q("repo", alice, "collection", note, "rkey", name), nil).want(t, 200, "").says(t, want)
	}
	list := w.call("", "com.atproto.repo.listRecords", q("repo", alice, "collection", note), nil).want(t, 200, "")
	if got := into[struct{ Records []json.RawMessage }](t, list); len(got.Records) != len(records) {
		t.Errorf("%d records", len(got.Records))
	}
	w.call(alice, "com.atproto.repo.createRecord", nil, obj("repo", alice, "collection", note, "record", obj("x", 1.5))).want(t, 400, "InvalidRequest")
	w.call(alice, "com.atproto.repo.putRecord", nil, obj("repo", alice, "collection", note, "rkey", "float", "record", obj("text", "now"))).want(t, 200, "")
	w.call(alice, "com.atproto.repo.deleteRecord", nil, obj("repo", alice, "collection", note, "rkey", "order")).want(t, 200, "")
	w.call(alice, "com.atproto.repo.applyWrites", nil, obj("repo", alice, "writes", []any{
		obj("$type", "com.atproto.repo.applyWrites#update", "collection", note, "rkey", "nan", "value", obj("text", "now")),
		obj("$type", "com.atproto.repo.applyWrites#delete", "collection", note, "rkey", "great")})).want(t, 200, "")
	export := w.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "")
	for _, name := range []string{"tag", "chunks", "twice", "latin1", "numbered"} {
		export.says(t, string(records[name]))
	}
}

// TestFaultsOfAnImport: the answer to a file that does not pass lists what is wrong with it.
func TestFaultsOfAnImport(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.note(alice, fmt.Sprint("key", i), fmt.Sprint("text ", i))
	}
	export := bytes.Clone(w.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "").body)
	export = bytes.ReplaceAll(export, []byte("text 1"), []byte("test 1")) // 11 records
	a := w.send(bob, "POST", "com.atproto.repo.importRepo", nil, "application/vnd.ipld.car", export).want(t, 400, "InvalidRequest")
	a.says(t, "not of "+bob)
	for _, i := range []int{1, 10, 15, 19} {
		a.says(t, fmt.Sprintf("record %s/key%d", note, i))
	}
}
