package stream

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
)

// Whatever the log holds becomes JSON, or an error that says so.
func FuzzJSONItem(f *testing.F) {
	now := time.UnixMilli(1)
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), (&commit.Identity{DID: "did:web:x.example", Handle: "x.example", Time: now}).Payload())
	f.Add(uint8(2), (&commit.Account{DID: "did:web:x.example", Status: "\u2028<>", Time: now}).Payload())
	f.Add(uint8(3), cbor.AppendMap(nil, 0))
	kinds := []string{commit.KindCommit, commit.KindIdentity, commit.KindAccount, commit.KindSync}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		it, err := jsonItem(storage.Event{Seq: 7, DID: "did:web:x.example", Kind: kinds[kind%4], Payload: payload})
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		for _, m := range it.messages {
			if !json.Valid(m.bytes) {
				t.Fatalf("%q", m.bytes)
			}
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
