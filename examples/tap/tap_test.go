package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

func (w *world) remove(a *pdstest.Account, collection, rkey string) {
	w.Helper()
	_, err := api.RepoDeleteRecord(w.Context(), a.Client, api.RepoDeleteRecordInput{Repo: syntax.AtIdentifier(a.DID), Collection: syntax.NSID(collection), RKey: syntax.RecordKey(rkey)})
	w.ok(err)
}

// active waits until the records of an account are there.
func (w *world) active(a *pdstest.Account) {
	w.Helper()
	w.eventually(func() error {
		status, body := w.request("GET", "/info/"+string(a.DID), "")
		if status != 200 || !strings.Contains(body, `"state":"active"`) {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// TestRecords: an account is added; its records come, and then what changes.
func TestRecords(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	alice.Put(notes, "1", note("one"))
	alice.Put(likes, "1", map[string]any{"$type": likes, "text": "<&>"})
	bob.Put(notes, "1", note("not asked for"))
	w.start()
	c := w.connect()
	w.repos("add", string(alice.DID))
	got := c.take(3)
	slices.Sort(got)
	want := []string{"identity alice.pds1.test true active", "old create com.example.like/1 <&>", "old create com.example.note/1 one"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	w.active(alice) // or what changes is part of what it has
	alice.Put(notes, "2", note("two"))
	alice.Put(notes, "2", note("zwei"))
	bob.Put(notes, "2", note("not asked for"))
	w.remove(alice, notes, "1")
	if got, want := c.take(3), []string{"live create com.example.note/2 two", "live update com.example.note/2 zwei", "live delete com.example.note/1"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}

	w.repos("remove", string(alice.DID))
	w.eventually(func() error {
		if status, body := w.request("GET", "/info/"+string(alice.DID), ""); status != 404 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	alice.Put(notes, "3", note("three"))
	w.repos("add", string(bob.DID))
	got = c.take(3) // and nothing of alice
	slices.Sort(got)
	if want := []string{"identity bob.pds1.test true active", "old create com.example.note/1 not asked for", "old create com.example.note/2 not asked for"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestBytes holds the form of events against what tap's clients read.
func TestBytes(t *testing.T) {
	w := newWorld(t).start()
	alice := w.pds.Account("alice")
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(w.url, "http", "ws", 1)+"/channel", nil)
	w.ok(err)
	defer conn.CloseNow()
	w.repos("add", string(alice.DID))
	read := func() string {
		kind, b, err := conn.Read(t.Context())
		w.ok(err)
		if kind != websocket.MessageText {
			t.Error("not text")
		}
		var id struct{ ID int64 }
		w.ok(json.Unmarshal(b, &id))
		w.ok(conn.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"ack","id":%d}`, id.ID)))
		return strings.Replace(string(b), fmt.Sprintf(`"id":%d`, id.ID), `"id":N`, 1)
	}
	if got, want := read(), fmt.Sprintf(`{"id":N,"type":"identity","identity":{"did":"%s","handle":"alice.pds1.test","is_active":true,"status":"active"}}`, alice.DID); got != want {
		t.Errorf("%s\n%s", got, want)
	}
	w.active(alice)
	out := alice.Put(notes, "1", map[string]any{"$type": notes, "n": 5, "text": "a"})
	if got, want := read(), fmt.Sprintf(`{"id":N,"type":"record","record":{"live":true,"did":"%s","rev":"%s","collection":"%s","rkey":"1","action":"create","record":{"n":5,"text":"a","$type":"%s"},"cid":"%s"}}`,
		alice.DID, out.Commit.Rev, notes, notes, out.CID); got != want {
		t.Errorf("%s\n%s", got, want)
	}
	w.remove(alice, notes, "1")
	head, err := api.SyncGetLatestCommit(t.Context(), w.pds.Client(), api.SyncGetLatestCommitParams{DID: alice.DID})
	w.ok(err)
	if got, want := read(), fmt.Sprintf(`{"id":N,"type":"record","record":{"live":true,"did":"%s","rev":"%s","collection":"%s","rkey":"1","action":"delete"}}`, alice.DID, head.Rev, notes); got != want {
		t.Errorf("%s\n%s", got, want)
	}
}

// TestAll and TestSignal: accounts are found.
func TestAll(t *testing.T) {
	w := newWorld(t, "-full-network", "-collection-filters", "com.example.*, org.example.none")
	alice := w.pds.Account("alice")
	alice.Put(notes, "1", note("one"))
	alice.Put("org.example.other", "1", map[string]any{"$type": "org.example.other"})
	w.start()
	c := w.connect()
	got := c.take(2)
	slices.Sort(got)
	if want := []string{"identity alice.pds1.test true active", "old create com.example.note/1 one"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	bob := w.pds.Account("bob")
	bob.Put(notes, "1", note("hello"))
	got = c.take(2)
	if all := strings.Join(got, "\n"); !strings.Contains(all, "identity bob.pds1.test true active") || !strings.Contains(all, " create com.example.note/1 hello") {
		t.Errorf("%q", got)
	}
}

func TestSignal(t *testing.T) {
	w := newWorld(t, "-signal-collection", likes, "-collection-filters", notes)
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	alice.Put(notes, "1", note("one"))
	alice.Put(likes, "1", map[string]any{"$type": likes})
	bob.Put(notes, "1", note("two"))
	w.start()
	c := w.connect()
	got := c.take(2)
	slices.Sort(got)
	if want := []string{"identity alice.pds1.test true active", "old create com.example.note/1 one"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	bob.Put(likes, "1", map[string]any{"$type": likes})
	got = c.take(2)
	slices.Sort(got)
	if want := []string{"identity bob.pds1.test true active", "old create com.example.note/1 two"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestStatus: an account is deactivated, comes back, and is deleted. What it had is deleted then.
func TestStatus(t *testing.T) {
	w := newWorld(t).start()
	alice := w.pds.Account("alice")
	alice.Put(notes, "1", note("one"))
	c := w.connect()
	w.repos("add", string(alice.DID))
	c.take(2)
	w.active(alice)
	w.ok(api.ServerDeactivateAccount(t.Context(), alice.Client, api.ServerDeactivateAccountInput{}))
	if got := c.take(1)[0]; got != "identity alice.pds1.test false deactivated" {
		t.Error(got)
	}
	if _, body := w.request("GET", "/info/"+string(alice.DID), ""); !strings.Contains(body, `"state":"deactivated"`) {
		t.Error(body)
	}
	w.ok(api.ServerActivateAccount(t.Context(), alice.Client))
	if got := c.take(1)[0]; got != "identity alice.pds1.test true active" {
		t.Error(got)
	}
	w.ok(api.AdminDeleteAccount(t.Context(), w.pds.Admin(), api.AdminDeleteAccountInput{DID: alice.DID}))
	if got, want := c.take(2), []string{"identity alice.pds1.test false deleted", "old delete com.example.note/1"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestResyncDeletes: what was deleted while nobody followed is told as deleted, also if the events
// of it are lost.
func TestResyncDeletes(t *testing.T) {
	w := newWorld(t)
	alice := w.pds.Account("alice")
	for i := range 3 {
		alice.Put(notes, syntax.RecordKey(fmt.Sprint(i)), note("x"))
	}
	w.start()
	c := w.connect()
	w.repos("add", string(alice.DID))
	c.take(4)
	w.eventually(func() error { return w.empty() })
	w.stop()
	w.remove(alice, notes, "1")
	alice.Put(notes, "2", note("changed"))
	events := w.pds.Store().Events
	w.ok(w.net.Relay.Settle(t.Context()))
	w.ok(events.Trim(t.Context(), w.net.Clock.Now().Add(time.Hour)))
	w.start()
	c = w.connect()
	got := c.take(2)
	slices.Sort(got)
	if want := []string{"old delete com.example.note/1", "old update com.example.note/2 changed"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// empty says what is left in the outbox.
func (w *world) empty() error {
	w.Helper()
	if _, body := w.request("GET", "/stats/outbox-buffer", ""); body != `{"outbox_buffer":0}` {
		return fmt.Errorf("%s", body)
	}
	return nil
}

// TestRequests holds the HTTP interface against what clients expect, and against what they should
// not send.
func TestRequests(t *testing.T) {
	w := newWorld(t, "-admin-password", "secret").start()
	alice := w.pds.Account("alice")
	alice.Put(notes, "1", note("one"))
	open := w.url
	if status, _ := w.request("GET", "/health", ""); status != 401 {
		t.Error(status)
	}
	for _, login := range []string{"admin:wrong", "root:secret", "admin:"} {
		w.url = strings.Replace(open, "http://", "http://"+login+"@", 1)
		if status, _ := w.request("GET", "/info/"+string(alice.DID), ""); status != 401 {
			t.Error(login, status)
		}
	}
	w.url = strings.Replace(open, "http://", "http://admin:secret@", 1)
	w.repos("add", string(alice.DID))
	w.repos("add", string(alice.DID)) // again
	w.repos("add")
	w.active(alice)
	head, err := api.SyncGetLatestCommit(t.Context(), w.pds.Client(), api.SyncGetLatestCommitParams{DID: alice.DID})
	w.ok(err)
	info := fmt.Sprintf(`{"did":"%s","error":"","handle":"alice.pds1.test","records":1,"retries":0,"rev":"%s","state":"active"}`, alice.DID, head.Rev)
	long := strings.Repeat(" ", maxBody+1)
	many := strings.Repeat(`"did:web:example.com",`, maxDIDs+1)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/health", "", 200, `{"status":"ok"}`},
		{"GET", "/info/" + string(alice.DID), "", 200, info},
		{"GET", "/info/" + strings.ReplaceAll(string(alice.DID), ":", "%3A"), "", 200, info},
		{"GET", "/info/did:web:localhost%3A1", "", 404, `{"message":"repo not found"}`},
		{"GET", "/info/nobody", "", 404, `{"message":"repo not found"}`},
		{"GET", "/resolve/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "", 404, `{"message":"DID not found"}`},
		{"GET", "/resolve/alice.pds1.test", "", 400, `{"message":"improperly formatted DID"}`},
		{"GET", "/stats/repo-count", "", 200, `{"repo_count":1}`},
		{"GET", "/stats/record-count", "", 200, `{"record_count":1}`},
		{"GET", "/stats/outbox-buffer", "", 200, `{"outbox_buffer":2}`},
		{"GET", "/stats/resync-buffer", "", 200, `{"resync_buffer":0}`},
		{"POST", "/repos/add", `{"dids":["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","alice.pds1.test"]}`, 400, `{"message":"improperly formatted DID"}`},
		{"POST", "/repos/add", `{"dids":`, 400, `{"message":"the body must be {\"dids\": [...]}"}`},
		{"POST", "/repos/remove", `{"dids":["did:web:` + strings.Repeat("a", 3000) + `"]}`, 400, `{"message":"improperly formatted DID"}`},
		{"POST", "/repos/add", long, 413, `{"message":"the body is too large"}`},
		{"POST", "/repos/add", `{"dids":[` + strings.TrimSuffix(many, ",") + `]}`, 400, `{"message":"more than 10,000 DIDs"}`},
		{"GET", "/repos/add", "", 405, "Method Not Allowed"},
		{"GET", "/", "", 404, "404 page not found"},
	} {
		if status, body := w.request(c.method, c.path, c.body); status != c.status || body != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	if status, body := w.request("GET", "/resolve/"+string(alice.DID), ""); status != 200 || !strings.Contains(body, `"id":"`+string(alice.DID)+`"`) || !strings.Contains(body, `"@context"`) {
		t.Error(status, body)
	}
	if _, body := w.request("GET", "/stats/cursors", ""); !strings.HasPrefix(body, `{"firehose":`) {
		t.Error(body)
	}
	res, err := http.Post(w.url+"/repos/add", "text/plain", strings.NewReader(`{"dids":[]}`))
	w.ok(err)
	res.Body.Close()
	if res.StatusCode != 415 {
		t.Error(res.Status)
	}
}

// TestHostileSockets: pages of other sites cannot connect; what is no message ends a socket, and
// acknowledges nothing.
func TestHostileSockets(t *testing.T) {
	w := newWorld(t).start()
	alice := w.pds.Account("alice")
	w.repos("add", string(alice.DID))
	url := strings.Replace(w.url, "http", "ws", 1) + "/channel"
	_, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || res == nil || res.StatusCode != 403 {
		t.Error(err)
	}
	w.active(alice)
	for _, text := range []string{"", "[]", "{", `{"type":"ack"}`, `{"type":"ack","id":"1"}`, `{"type":"ack","id":-1}`, `{"type":"ack","id":1e30}`, `{"type":"ack","id":1.5}`, strings.Repeat("x", maxFrame+1)} {
		c := w.connect()
		c.ok(c.conn.Write(t.Context(), websocket.MessageText, []byte(text)))
		closed := time.After(10 * time.Second)
	drain:
		for {
			select {
			case _, ok := <-c.events:
				if !ok {
					break drain
				}
			case <-closed:
				t.Fatalf("%.20q: the socket is still open", text)
			}
		}
	}
	c := w.connect()
	for _, text := range []string{`{"type":"hello"}`, `{"type":"ack","id":9007199254740991}`} {
		c.ok(c.conn.Write(t.Context(), websocket.MessageText, []byte(text)))
	}
	if got := c.take(1)[0]; got != "identity alice.pds1.test true active" {
		t.Error(got)
	}
}

// TestReadme: the events in the README are what clients get.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```json\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("the README has no events")
	}
	n := 0
	for d := json.NewDecoder(strings.NewReader(text)); d.More(); n++ {
		var raw json.RawMessage
		var m message
		var got, want any
		if err := d.Decode(&raw); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(json.Unmarshal(raw, &want), json.Unmarshal(raw, &m)); err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(m)
		if err := errors.Join(err, json.Unmarshal(encoded, &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the README (-) and an event (+):\n%s", diff)
		}
	}
	if n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestVariables: variables of tap count by all their names, flags count more, and what does not fit
// together is refused.
func TestVariables(t *testing.T) {
	env := map[string]string{"TAP_BIND": "127.0.0.1:1", "ATP_PLC_HOST": "https://other.test", "TAP_PLC_URL": "https://plc.test", "RELAY_IDENT_CACHE_SIZE": "7", "TAP_NO_REPLAY": "true"}
	o, err := parse([]string{"run", "-bind", "127.0.0.1:2"}, func(name string) string { return env[name] }, io.Discard)
	if err != nil || o.bind != "127.0.0.1:2" || o.plc != "https://plc.test" || o.cache != 7 || !o.noReplay {
		t.Errorf("%+v, %v", o, err)
	}
	env["TAP_FULL_NETWORK"] = "true"
	if _, err := parse(nil, func(name string) string { return env[name] }, io.Discard); err == nil {
		t.Error("-no-replay and -full-network are taken")
	}
}
