package stream

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
)

// Whatever the log holds becomes JSON, of bounded size, or is left out with an error that says so.
func FuzzJSONItem(f *testing.F) { fuzzItem(f, jsonItem) }

// The same for version 2.
func FuzzEventsItem(f *testing.F) { fuzzItem(f, eventsItem) }

func fuzzItem(f *testing.F, encode func(storage.Event) (*item, error)) {
	now := time.UnixMilli(1)
	record := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 1), "$type"), "com.example.x")
	c, err := cid.V1Builder{Codec: cid.DagCBOR, MhType: 0x12}.Sum(record)
	if err != nil {
		f.Fatal(err)
	}
	e := &commit.Event{
		Repo: "did:web:x.example", Commit: c, Rev: "3jzfcijpj2z2a", Time: now, Blocks: car.Append(nil, []cid.Cid{c}, car.Block{CID: c, Data: record}),
		Ops: []commit.Op{{Action: commit.Create, Path: "com.example.x/1", CID: c}, {Action: commit.Delete, Path: "com.example.x/2", Prev: c}},
	}
	f.Add(uint8(0), e.Payload())
	f.Add(uint8(1), (&commit.Identity{DID: "did:web:x.example", Handle: "x.example", Time: now}).Payload())
	f.Add(uint8(2), (&commit.Account{DID: "did:web:x.example", Status: "\u2028<>", Time: now}).Payload())
	f.Add(uint8(3), cbor.AppendMap(nil, 0))
	kinds := []string{commit.KindCommit, commit.KindIdentity, commit.KindAccount, commit.KindSync}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		it, err := encode(storage.Event{Seq: 7, DID: "did:web:x.example", Kind: kinds[kind%4], Payload: payload})
		if it == nil || it.seq != 7 {
			t.Fatal(it, err)
		}
		size, last := 0, int64(0)
		for _, m := range it.messages {
			if size += len(m.bytes); !json.Valid(m.bytes) || m.seq < last || m.seq > 7 {
				t.Fatalf("%d: %q", m.seq, m.bytes)
			}
			last = m.seq
		}
		if size > maxEventJSON+8*len(payload)+len(it.messages)*2000 {
			t.Fatalf("%d bytes of messages", size)
		}
	})
}

// Names of an options message are exact, and each is there once.
func TestUpdateWithNamesInAnotherCaseOrTwice(t *testing.T) {
	f, err := parseUpdate([]byte(`{"type":"options_update","Type":"x","payload":{"wantedCollections":["com.example.a"],"WantedCollections":["com.example.b"],"wanteddids":["did:web:x.example"],"MaxMessageSizeBytes":1},"Payload":{}}`))
	if err != nil || len(f.collections) != 1 || !f.collections["com.example.a"] || f.dids != nil || f.maxSize != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, text := range []string{
		`{"type":"x","type":"options_update","payload":{}}`,
		`{"type":"options_update","Payload":{}}`,
		`{"type":"options_update","payload":{"wantedDids":["did:web:x.example"],"wantedDids":[]}}`,
		`{"type":"options_update","payload":{}} {}`,
	} {
		if f, err := parseUpdate([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, f)
		}
	}
}

// Whatever a subscriber asks for in parameters is understood or refused, and within the bounds.
func FuzzParameters(f *testing.F) {
	f.Add("wantedCollections=a.b.c&wantedCollections=a.*&wantedDids=did:web:x.example&maxMessageSizeBytes=7&cursor=1&compress=true", "zstd")
	f.Add("cursor=-1&requireHello=true&%zz", "permessage-deflate; a, b")
	v := &JSONView{}
	f.Fuzz(func(t *testing.T, query, header string) {
		q, err := v.parse(&http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Socket-Encoding": {header}, "Sec-Websocket-Extensions": {header}}})
		switch {
		case err != nil:
		case q.cursor != nil && *q.cursor < 0, q.zstd, q.filter.maxSize < 0, q.filter.maxSize >= 1<<32,
			len(q.filter.collections)+len(q.filter.prefixes) > maxWantedCollections, len(q.filter.dids) > maxWantedDIDs:
			t.Fatalf("%+v, %+v", q, q.filter)
		}
	})
}

// The same for version 2, which forgives nothing.
func FuzzEventsParameters(f *testing.F) {
	f.Add("cursor=1&kinds=commit&kinds=sync&dids=did:web:x.example&collections=a.b.c&collections=a.b.*&maxMessageSizeBytes=7&zstdDictionary=9", "")
	f.Add("cursor=1000000000000001&wantedDids=x", "zstd")
	f.Add("collections=*&kinds=identity", "xzstd")
	f.Fuzz(func(t *testing.T, query, header string) {
		q, err := parseEvents(&http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Socket-Encoding": {header}}})
		if err != nil {
			return
		}
		v, err := url.ParseQuery(query)
		f := q.filter
		switch {
		case err != nil, q.cursor != nil && *q.cursor < 0, f.maxSize < 0, f.maxSize >= 1<<32,
			len(f.collections)+len(f.prefixes) > min(maxWantedCollections, len(v["collections"])), len(f.dids) > min(maxWantedDIDs, len(v["dids"])),
			f.collections != nil && f.kinds != 0 && f.kinds&kindCommit == 0, header == "zstd", v.Has("wantedDids"), v.Has("compress"):
			t.Fatalf("%+v, %+v", q, f)
		}
		for _, oldest := range []int64{0, 1, 5e14, 2e15} {
			after, outdated, err := q.start(oldest)
			if err == nil && after != nil && (*after < 0 || outdated && *q.cursor < microseconds || !outdated && *after > *q.cursor) {
				t.Fatalf("cursor %d, oldest %d: after %d, outdated %v", *q.cursor, oldest, *after, outdated)
			}
		}
	})
}

// A filter that is accepted is within its bounds and says the same when it is sent again.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"type":"options_update","payload":{"wantedCollections":["a.b.c","a.*"],"wantedDids":["did:web:x.example"],"maxMessageSizeBytes":7}}`))
	f.Add([]byte(`{"type":"options_update","payload":{"wantedCollections":["*"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseUpdate(b)
		if err != nil || got == nil {
			return
		}
		if len(got.collections)+len(got.prefixes) > maxWantedCollections || len(got.dids) > maxWantedDIDs || got.maxSize < 0 {
			t.Fatalf("%+v", got)
		}
		o := filterOptions{MaxSize: got.maxSize}
		for c := range got.collections {
			o.Collections = append(o.Collections, string(c))
			if !got.message(&message{collection: c}) {
				t.Fatalf("%s is not let through", c)
			}
		}
		for _, p := range got.prefixes {
			o.Collections = append(o.Collections, p+"*")
		}
		for d := range got.dids {
			o.DIDs = append(o.DIDs, string(d))
			if !got.account(d) {
				t.Fatalf("%s is not let through", d)
			}
		}
		if _, err := newFilter(o); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
	})
}
