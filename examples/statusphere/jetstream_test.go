package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// fakeJetstream is a server that speaks version 1 of Jetstream: it sends what it is told to, and what
// it has sent before from the cursor of a connection on, which counts.
type fakeJetstream struct {
	t  *testing.T
	mu sync.Mutex
	// sent are the messages, with their times.
	sent    []timed
	last    int64
	queries []string // of the connections
	conn    *websocket.Conn
}

type timed struct {
	at   int64
	text string
}

func (f *fakeJetstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var cursor int64
	fmt.Sscan(q.Get("cursor"), &cursor)
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	f.queries = append(f.queries, r.URL.Path+" "+q.Get("wantedCollections"))
	for _, m := range f.sent {
		if m.at >= cursor {
			c.Write(r.Context(), websocket.MessageText, []byte(m.text))
		}
	}
	f.conn = c
	f.mu.Unlock()
	c.Read(context.Background()) // until it is closed
}

// send sends a message: a JSON object, without its DID and time.
func (f *fakeJetstream) send(did syntax.DID, rest string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = max(f.last+1, time.Now().UnixMicro())
	m := timed{f.last, fmt.Sprintf(`{"did":"%s","time_us":%d,`, did, f.last) + fmt.Sprintf(rest, args...) + `}`}
	f.sent = append(f.sent, m)
	f.raw(websocket.MessageText, m.text)
}

func (f *fakeJetstream) raw(typ websocket.MessageType, text string) {
	if f.conn != nil {
		f.conn.Write(context.Background(), typ, []byte(text))
	}
}

// junk sends something that is not remembered.
func (f *fakeJetstream) junk(typ websocket.MessageType, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raw(typ, text)
}

// drop ends the connection, and waits for the next.
func (f *fakeJetstream) drop() {
	f.t.Helper()
	f.mu.Lock()
	n := len(f.queries)
	f.conn.CloseNow()
	f.mu.Unlock()
	eventually(f.t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.queries) == n {
			return fmt.Errorf("nobody connects again")
		}
		return nil
	})
}

// commit sends what a PDS has answered to a write.
func (f *fakeJetstream) commit(a *pdstest.Account, operation string, uri syntax.ATURI, cid syntax.CID, rev syntax.TID, text, created string) {
	rkey := uri[strings.LastIndex(string(uri), "/")+1:]
	if operation == "delete" {
		f.send(a.DID, `"kind":"commit","commit":{"rev":"%s","operation":"delete","collection":"xyz.statusphere.status","rkey":"%s"}`, rev, rkey)
		return
	}
	f.send(a.DID, `"kind":"commit","commit":{"rev":"%s","operation":"%s","collection":"xyz.statusphere.status","rkey":"%s","cid":"%s","record":{"$type":"xyz.statusphere.status","status":"%s","createdAt":"%s"}}`,
		rev, operation, rkey, cid, text, created)
}

func TestJetstream(t *testing.T) {
	fake := &fakeJetstream{t: t}
	srv := httptest.NewServer(fake)
	t.Cleanup(srv.Close)
	w := newWorld(t, func(s *settings) {
		s.firehose, s.jetstream, s.operator = "", "ws"+strings.TrimPrefix(srv.URL, "http"), srv.Client()
	})
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	write := func(a *pdstest.Account, text string) (api.RepoCreateRecordOutput, string) {
		created := string(syntax.NewDatetime(w.net.Clock.Now()))
		out := a.Create(status.Collection, map[string]any{"$type": string(status.Collection), "status": text, "createdAt": created})
		fake.commit(a, "create", out.URI, out.CID, out.Commit.Rev, text, created)
		return out, created
	}
	first, created := write(alice, "👍")
	write(bob, "🧑‍💻")
	w.wait("bob 🧑‍💻", "alice 👍")

	// Once more, and after the connection was lost: nothing is there twice, nothing is told twice.
	changes := func() (n int) {
		t.Helper()
		if err := w.app.index.SQL.QueryRowContext(t.Context(), "SELECT count(*) FROM change WHERE kind <> 'renamed'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := changes()
	fake.drop()
	write(bob, "🌙")
	w.wait("bob 🌙", "bob 🧑‍💻", "alice 👍")
	if n := changes(); n != before+1 {
		t.Errorf("%d changes after one more status, %d before", n, before)
	}

	// An update, hostile messages, and a delete.
	put := func(text string) {
		t.Helper()
		rkey := syntax.RecordKey(first.URI[strings.LastIndex(string(first.URI), "/")+1:])
		out := alice.Put(status.Collection, rkey, map[string]any{"$type": string(status.Collection), "status": text, "createdAt": created})
		fake.commit(alice, "update", out.URI, out.CID, out.Commit.Rev, text, created)
	}
	put("👎")
	w.wait("bob 🌙", "bob 🧑‍💻", "alice 👎")
	next := string(syntax.NewTID(time.Now(), 0))
	record := func(rkey, text, cid string) string {
		return fmt.Sprintf(`"kind":"commit","commit":{"rev":"%s","operation":"create","collection":"xyz.statusphere.status","rkey":"%s","cid":"%s","record":{"$type":"xyz.statusphere.status","status":%s,"createdAt":"2026-08-01T12:00:00Z"}}`, next, rkey, cid, text)
	}
	for _, m := range []string{
		record(next, `"👍👍"`, ""), record(next, `17`, ""), record(next, `{"a":1}`, ""), record("self", `"👍"`, ""), record("../x", `"👍"`, ""),
		record(next, `"👍"`, "bafyreibjo4xmgaevkgud7mbifn3dzp4v4lyaui4yvqp3f2bqwtxcjrdqg4"), // of another record
		strings.Replace(record(next, `"👍"`, ""), next, "yesterday", 1), strings.Replace(record(next, `"👍"`, ""), "create", "replace", 1),
		strings.Replace(record(next, `"👍"`, ""), "xyz.statusphere", "xyz.other", 1), `"kind":"commit"`, `"kind":"account"`, `"kind":"what"`,
		`"kind":"commit","commit":{"rev":"` + next + `","operation":"create","collection":"xyz.statusphere.status","rkey":"` + next + `"}`,
		record(next, `"`+strings.Repeat("e\u0301", 400000)+`"`, ""),
	} {
		fake.send(bob.DID, "%s", m)
	}
	for _, text := range []string{"", "{", "null", "[]", `{"did":"x","time_us":1,"kind":"commit"}`, `{"did":"` + string(bob.DID) + `","time_us":-1,"kind":"account"}`,
		`{"did":"` + string(bob.DID) + `","time_us":99999999999999999,"kind":"identity"}`, strings.Repeat("[", 100000), `{"did":1}`} {
		fake.junk(websocket.MessageText, text)
	}
	fake.junk(websocket.MessageBinary, "zstd")
	rkey := first.URI[strings.LastIndex(string(first.URI), "/")+1:]
	out, err := api.RepoDeleteRecord(t.Context(), alice, api.RepoDeleteRecordInput{Repo: syntax.AtIdentifier(alice.DID), Collection: status.Collection, RKey: syntax.RecordKey(rkey)})
	if err != nil {
		t.Fatal(err)
	}
	fake.commit(alice, "delete", first.URI, "", out.Commit.Rev, "", "")
	w.wait("bob 🌙", "bob 🧑‍💻")

	// A message that is far too long, and not remembered, ends the connection at worst.
	fake.junk(websocket.MessageText, `{"did":"`+strings.Repeat("x", 65<<20)+`"}`)
	write(alice, "🚀")
	w.wait("alice 🚀", "bob 🌙", "bob 🧑‍💻")

	// Accounts and handles.
	fake.send(bob.DID, `"kind":"account","account":{"active":false,"did":"%s","seq":1,"status":"takendown","time":"2026-08-01T12:00:00Z"}`, bob.DID)
	w.wait("alice 🚀")
	fake.send(bob.DID, `"kind":"account","account":{"active":true,"did":"%s","seq":2,"time":"2026-08-01T12:00:00Z"}`, bob.DID)
	w.wait("alice 🚀", "bob 🌙", "bob 🧑‍💻")
	if err := api.IdentityUpdateHandle(t.Context(), alice, api.IdentityUpdateHandleInput{Handle: syntax.Handle("carol." + w.pds.Name)}); err != nil {
		t.Fatal(err)
	}
	fake.send(alice.DID, `"kind":"identity","identity":{"did":"%s","handle":"mallory.example.com","seq":3,"time":"2026-08-01T12:00:00Z"}`, alice.DID)
	w.wait("carol 🚀", "bob 🌙", "bob 🧑‍💻")
	fake.send(bob.DID, `"kind":"account","account":{"active":false,"did":"%s","seq":1,"status":"deleted","time":"2026-08-01T12:00:00Z"}`, bob.DID)
	w.wait("carol 🚀")

	// The app is started anew, and asks for what came after the last message.
	w.stop()
	write(alice, "🎧")
	w.start()
	w.wait("carol 🎧", "carol 🚀")
	if u := w.visit(); !strings.Contains(u.page.Body, "Not verified") {
		t.Error("the page does not say that nothing is verified")
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if slices.ContainsFunc(fake.queries, func(q string) bool { return q != "/subscribe xyz.statusphere.status" }) {
		t.Errorf("the connections are %q", fake.queries)
	}
}
