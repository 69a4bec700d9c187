package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// FuzzAck: a message of a client acknowledges a positive number, or nothing.
func FuzzAck(f *testing.F) {
	for _, s := range []string{`{"type":"ack","id":7}`, `{"type":"ack"}`, `{"id":1,"type":"hello"}`, `{"type":"ack","id":1e3}`, "[]", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, ok, err := parseAck(b)
		if ok && (id <= 0 || err != nil || !json.Valid(b)) || err != nil && id < 0 && ok {
			t.Errorf("%q: %d, %v, %v", b, id, ok, err)
		}
	})
}

// FuzzDIDs: what is accepted of a request is DIDs.
func FuzzDIDs(f *testing.F) {
	for _, s := range []string{`{"dids":["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"]}`, `{"dids":[null]}`, `{"dids":{}}`, `null`, ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dids, err := parseDIDs(b)
		if len(dids) > maxDIDs {
			t.Error(len(dids))
		}
		for _, did := range dids {
			if _, bad := syntax.ParseDID(string(did)); bad != nil || err != nil {
				t.Errorf("%q: %v, %v", did, bad, err)
			}
		}
	})
}

// FuzzDIDPath: what is read of a path is a DID.
func FuzzDIDPath(f *testing.F) {
	for _, s := range []string{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did%3Aplc%3Aaaaaaaaaaaaaaaaaaaaaaaaa", "did:web:localhost%3A1", "did:web:localhost%253A1", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse("http://localhost/info/" + path)
		if err != nil || u.RawQuery != "" || strings.Contains(u.Path, "//") {
			return
		}
		mux := http.NewServeMux()
		mux.HandleFunc("GET /info/{did}", func(_ http.ResponseWriter, r *http.Request) {
			if did, err := didOf(r); err == nil {
				if _, err := syntax.ParseDID(string(did)); err != nil {
					t.Errorf("%q: %v", path, err)
				}
			}
		})
		mux.ServeHTTP(httptest.NewRecorder(), &http.Request{Method: "GET", URL: u, Host: "localhost"})
	})
}

// FuzzRecord: whatever a record is, its event is JSON of one line, and says delete if the record
// cannot be told.
func FuzzRecord(f *testing.F) {
	b, err := data.Encode(map[string]any{"$type": notes, "text": "<&>\u2028", "b": data.Bytes("x")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa0})
	f.Add([]byte{0xa1, 0x61, 'x', 0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0}) // infinity
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		op := &indexer.Op{DID: "did:web:alice.example", Rev: "3k2la4bsk2c2x", Action: commit.Create, Collection: notes, RKey: "1", CID: data.CID(b), Record: b, Live: true}
		text, err := recordMessage(5, op)
		if err != nil {
			t.Fatal(err)
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil || m.ID != 5 || m.Record == nil || strings.ContainsAny(string(text), "\n\r") {
			t.Fatalf("%s: %v", text, err)
		}
		if (m.Record.Action == commit.Delete) != (m.Record.Record == nil) || (m.Record.CID == "") != (m.Record.Record == nil) {
			t.Errorf("%s", text)
		}
	})
}
