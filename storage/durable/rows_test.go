package durable

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
)

// FuzzRows reads anything as each kind of row: it is refused, or it is what is
// written again.
func FuzzRows(f *testing.F) {
	c := dag.Sum(dag.CBOR, []byte("x"))
	blobs := []cid.Cid{dag.Sum(dag.Raw, []byte("a")), dag.Sum(dag.Raw, []byte("b"))}
	f.Add((&state{did: alice, head: head(1), block: []byte("block"), base: "3jzfcijpj2z2a", outbox: 7}).encode())
	f.Add((&state{did: alice, head: head(1), set: 3}).encode())
	f.Add((&state{}).encode())
	f.Add(outbox{[]storage.Event{{DID: alice, Kind: "#commit", Time: time.UnixMilli(1).UTC(), Payload: []byte("p")}, {}}, nil}.encode())
	f.Add(outbox{[]storage.Event{{DID: alice, Kind: "#account"}}, []storage.KVWrite{{Key: "account", Value: []byte("{}")}, {Key: "gone"}}}.encode())
	f.Add((&row{cid: c, rev: "3jzfcijpj2z2a", blobs: blobs, data: []byte("data")}).encode())
	f.Add((&row{cid: c}).encode())
	f.Add(encodeMark(300))
	f.Add(encodePair([]byte("value"), time.UnixMicro(5)))
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(name string, err error, again func() []byte) {
			t.Helper()
			if err != nil {
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("%s: %v", name, err)
				}
			} else if out := again(); !bytes.Equal(out, b) {
				t.Errorf("%s: %x is written again as %x", name, b, out)
			}
		}
		st, err := decodeState(b)
		check("state", err, st.encode)
		box, err := decodeOutbox(b)
		check("outbox", err, box.encode)
		r, err := decodeRow(b, false)
		check("record", err, r.encode)
		mark, err := decodeMark(b)
		if mark != 0 || err != nil {
			check("mark", err, func() []byte { return encodeMark(mark) })
		}
		value, expires, err := decodePair(b)
		check("key", err, func() []byte { return encodePair(value, expires) })
		short, err := decodeRow(b[:min(len(b), rowHead)], true)
		if err == nil && r.cid.Defined() && (short.cid != r.cid || short.rev != r.rev) {
			t.Error("the head of a record differs from the record")
		}
	})
}
