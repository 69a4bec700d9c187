//go:build !js

package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/stream"
)

const (
	alice syntax.DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	bob   syntax.DID = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
)

// network is a host with an outbox.
type network struct {
	t     testing.TB
	key   *crypto.PrivateKey
	store storage.Store
	host  *repo.Host
	out   *stream.Outbox
	url   string // of the outbox
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, key: key, store: memory.New(memory.Config{})}
	n.host = repo.NewHost(repo.Config{Store: n.store, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return n.key, nil }})
	n.out = &stream.Outbox{Events: n.store.Events}
	srv := httptest.NewServer(n.out)
	n.url = srv.URL
	t.Cleanup(func() {
		n.out.Close()
		srv.Close()
	})
	return n
}

// create makes an account, with the events that go along.
func (n *network) create(did syntax.DID, handle syntax.Handle) {
	n.t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	identity := &commit.Identity{DID: did, Handle: handle, Time: now}
	account := &commit.Account{DID: did, Active: true, Time: now}
	if _, err := n.host.Create(context.Background(), did, repo.Batch{Sync: true, Events: []storage.Event{
		{DID: did, Kind: commit.KindIdentity, Time: now, Payload: identity.Payload()},
		{DID: did, Kind: commit.KindAccount, Time: now, Payload: account.Payload()},
	}}); err != nil {
		n.t.Fatal(err)
	}
}

// write makes a commit of writes such as "put app.bsky.feed.post/one text".
func (n *network) write(did syntax.DID, writes ...string) repo.Result {
	n.t.Helper()
	var b repo.Batch
	for _, w := range writes {
		action, rest, _ := strings.Cut(w, " ")
		path, text, _ := strings.Cut(rest, " ")
		collection, rkey, err := syntax.ParsePath(path)
		if err != nil {
			n.t.Fatal(err)
		}
		write := repo.Write{Action: repo.Put, Collection: collection, RKey: rkey}
		if action == "delete" {
			write.Action = repo.Delete
		} else if write.Record, err = data.Encode(map[string]any{"$type": string(collection), "text": text}); err != nil {
			n.t.Fatal(err)
		}
		b.Writes = append(b.Writes, write)
	}
	res, err := n.host.Apply(context.Background(), did, b)
	if err != nil {
		n.t.Fatal(err)
	}
	return res
}

// last is the newest sequence number.
func (n *network) last() int64 {
	_, newest, err := n.store.Events.Bounds(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	return newest
}

// jsonMessage is a message of the view, as a consumer decodes it.
type jsonMessage struct {
	DID      syntax.DID     `json:"did"`
	Time     int64          `json:"time_us"`
	Kind     string         `json:"kind"`
	Commit   map[string]any `json:"commit"`
	Identity map[string]any `json:"identity"`
	Account  map[string]any `json:"account"`
}

// short is what most tests compare of a message.
func (m jsonMessage) short() string {
	if m.Commit != nil {
		return fmt.Sprintf("%s %s %s/%s", m.DID[8:9], m.Commit["operation"], m.Commit["collection"], m.Commit["rkey"])
	}
	return fmt.Sprintf("%s %s", m.DID[8:9], m.Kind)
}

// jsonClient reads messages of a view.
type jsonClient struct {
	t *testing.T
	c *websocket.Conn
}

func openJSON(t *testing.T, url, query string, opts *websocket.DialOptions) *jsonClient {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), url+"/?"+query, opts)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return &jsonClient{t, c}
}

func (j *jsonClient) next() (m jsonMessage) {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), 20*time.Second)
	defer cancel()
	typ, b, err := j.c.Read(ctx)
	if err != nil {
		j.t.Fatal(err)
	}
	if typ != websocket.MessageText {
		j.t.Fatal("a binary message")
	}
	if err := json.Unmarshal(b, &m); err != nil {
		j.t.Fatal(err)
	}
	return m
}

func (j *jsonClient) shorts(n int) (list []string) {
	j.t.Helper()
	for range n {
		list = append(list, j.next().short())
	}
	return list
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func serveJSON(t *testing.T, n *network, compress bool) (*stream.JSONView, string) {
	t.Helper()
	v := &stream.JSONView{Outbox: n.out, Compress: compress}
	srv := httptest.NewServer(v)
	t.Cleanup(srv.Close)
	return v, srv.URL
}

func TestJSONMessages(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	j := openJSON(t, url, "cursor=0", nil)
	n.create(alice, "alice.test")
	created := n.last()
	first := n.write(alice, "put com.example.note/one a<b>&\u2028c")
	n.write(alice, "put com.example.note/one d")
	last := n.write(alice, "delete com.example.note/one")

	m := j.next()
	same(t, "identity", m.Identity, map[string]any{"did": string(alice), "handle": "alice.test", "seq": float64(m.Time), "time": "2026-01-02T03:04:05.006Z"})
	same(t, "account", func() any { m = j.next(); return m.Account }(), map[string]any{"did": string(alice), "active": true, "seq": float64(m.Time), "time": "2026-01-02T03:04:05.006Z"})
	if m.Time >= created {
		t.Errorf("number %d, the last one is %d", m.Time, created)
	}
	m = j.next()
	want := jsonMessage{DID: alice, Time: first.Seq, Kind: "commit", Commit: map[string]any{
		"rev": string(first.Head.Rev), "operation": "create", "collection": "com.example.note", "rkey": "one",
		"record": map[string]any{"$type": "com.example.note", "text": "a<b>&\u2028c"}, "cid": first.Records[0].CID.String(),
	}}
	same(t, "create", m, want)
	same(t, "update", j.next().Commit["operation"], any("update"))
	same(t, "delete", j.next(), jsonMessage{DID: alice, Time: last.Seq, Kind: "commit", Commit: map[string]any{
		"rev": string(last.Head.Rev), "operation": "delete", "collection": "com.example.note", "rkey": "one",
	}})
}

// A consumer that comes back sees the last message again, and misses nothing.
func TestJSONCursor(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	res := n.write(alice, "put com.example.note/one x", "put com.example.note/two x")
	n.write(alice, "put com.example.note/three x")
	all := []string{"a identity", "a account", "a create com.example.note/one", "a create com.example.note/two", "a create com.example.note/three"}
	same(t, "from the start", openJSON(t, url, "cursor=0", nil).shorts(5), all)
	same(t, "from an event", openJSON(t, url, fmt.Sprintf("cursor=%d", res.Seq-1), nil).shorts(3), all[2:])
	same(t, "from inside an event", openJSON(t, url, fmt.Sprintf("cursor=%d", res.Seq), nil).shorts(2), all[3:])
	same(t, "after an event", openJSON(t, url, fmt.Sprintf("cursor=%d", res.Seq+1), nil).shorts(1), all[4:])
	v, url := serveJSON(t, n, false)
	live, future := openJSON(t, url, "", nil), openJSON(t, url, "cursor=9000000000000000", nil)
	testenv.Until(t, "subscribers", func() bool { return v.Subscribers() >= 2 })
	n.write(alice, "put com.example.note/four x")
	same(t, "live", live.shorts(1), []string{"a create com.example.note/four"})
	same(t, "from the future", future.shorts(1), []string{"a create com.example.note/four"})
}

func TestJSONFilters(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.create(bob, "bob.test")
	n.write(alice, "put app.bsky.feed.post/1 x", "put app.bsky.feed.like/1 x", "put app.bsky.graph.follow/1 x")
	n.write(bob, "put app.bsky.feed.post/2 "+strings.Repeat("long ", 200), "put com.example.note/2 x")
	n.write(bob, "put end.of.test/x x") // all have this in their filters
	const end = "wantedCollections=end.of.test&cursor=0&"
	accounts := []string{"a identity", "a account", "b identity", "b account"}
	for query, want := range map[string][]string{
		end: accounts,
		end + "wantedCollections=app.bsky.feed.post":                            append(slices.Clone(accounts), "a create app.bsky.feed.post/1", "b create app.bsky.feed.post/2"),
		end + "wantedCollections=app.bsky.feed.*":                               append(slices.Clone(accounts), "a create app.bsky.feed.post/1", "a create app.bsky.feed.like/1", "b create app.bsky.feed.post/2"),
		end + "wantedCollections=app.bsky.*&wantedCollections=com.example.note": append(slices.Clone(accounts), "a create app.bsky.feed.post/1", "a create app.bsky.feed.like/1", "a create app.bsky.graph.follow/1", "b create app.bsky.feed.post/2", "b create com.example.note/2"),
		end + "wantedDids=" + string(bob):                                       {"b identity", "b account"},
		end + "wantedCollections=app.bsky.*&wantedDids=" + string(bob):          {"b identity", "b account", "b create app.bsky.feed.post/2"},
		end + "wantedDids=did:web:x.example&wantedDids=" + string(bob):          {"b identity", "b account"},
		end + "wantedCollections=app.bsky.feed.post&maxMessageSizeBytes=600":    append(slices.Clone(accounts), "a create app.bsky.feed.post/1"),
		"cursor=0&wantedDids=" + string(bob):                                    {"b identity", "b account", "b create app.bsky.feed.post/2", "b create com.example.note/2"},
	} {
		j := openJSON(t, url, query, nil)
		same(t, query, j.shorts(len(want)+1), append(want, "b create end.of.test/x"))
	}
	for _, query := range []string{
		"wantedCollections=nonsense", "wantedCollections=app.bsky.feed*", "wantedCollections=*", "wantedDids=alice.test",
		"cursor=x", "cursor=-1", "compress=true", "%zz",
	} {
		resp, err := http.Get(url + "/?" + query)
		if err != nil {
			t.Fatal(err)
		}
		same(t, query, resp.StatusCode, 400)
	}
}

// A message from the subscriber changes its filters; a malformed one ends the connection.
func TestJSONOptionsUpdate(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/1 x", "put com.example.other/1 x")
	j := openJSON(t, url, "requireHello=true&cursor=0", nil)
	update := func(text string) {
		if err := j.c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	update(`{"type":"options_update","payload":{"wantedCollections":["com.example.other"],"wantedDids":[],"maxMessageSizeBytes":0}}`)
	same(t, "after the hello", j.shorts(3), []string{"a identity", "a account", "a create com.example.other/1"})
	// There is no answer to an update, so this one is seen to work by what comes after it.
	update(`{"type":"options_update","payload":{"wantedCollections":["com.example.note"]}}`)
	for i := 2; ; i++ {
		n.write(alice, fmt.Sprintf("put com.example.note/%d x", i), fmt.Sprintf("put com.example.other/%d x", i))
		if m := j.next(); m.Commit["collection"] == "com.example.note" {
			break
		}
	}
	update(`{"type":"options_update","payload":{"wantedDids":["nobody"]}}`)
	for {
		if _, _, err := j.c.Read(t.Context()); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Error(err)
			}
			break
		}
	}
}

func TestJSONCompression(t *testing.T) {
	n := newNetwork(t)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/1 "+strings.Repeat("again and ", 1000))
	for _, compress := range []bool{false, true} {
		_, url := serveJSON(t, n, compress)
		var counted countingTransport
		j := openJSON(t, url, "cursor=0&wantedCollections=com.example.note", &websocket.DialOptions{
			CompressionMode: websocket.CompressionNoContextTakeover, HTTPClient: &http.Client{Transport: &counted},
		})
		for range 3 {
			j.next()
		}
		if negotiated := strings.Contains(counted.extensions, "permessage-deflate"); negotiated != compress {
			t.Errorf("compression is %q", counted.extensions)
		}
	}
}

// countingTransport remembers what was agreed upon.
type countingTransport struct{ extensions string }

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		c.extensions = resp.Header.Get("Sec-WebSocket-Extensions")
	}
	return resp, err
}

// Closing the outbox ends the view.
func TestJSONClose(t *testing.T) {
	n := newNetwork(t)
	v, url := serveJSON(t, n, false)
	j := openJSON(t, url, "", nil)
	testenv.Until(t, "subscribers", func() bool { return v.Subscribers() >= 1 })
	same(t, "those of the view do not count", n.out.Subscribers(), 0)
	ended := make(chan error)
	go func() {
		_, _, err := j.c.Read(t.Context())
		ended <- err
	}()
	n.out.Close()
	if err := <-ended; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
	late := httptest.NewServer(&stream.JSONView{Outbox: n.out})
	defer late.Close()
	if _, resp, err := websocket.Dial(t.Context(), late.URL, nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Error(err)
	}
}

// An account that is deleted while many follow disturbs nobody.
func TestSubscribersOutliveAccounts(t *testing.T) {
	n := newNetwork(t)
	v, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.create(bob, "bob.test")
	zero := int64(0)
	f := &stream.Follower{Consumer: stream.Consumer{URL: n.url, Cursor: &zero}, Verifier: &commit.Verifier{Key: n.verifierKey}}
	j := openJSON(t, url, "wantedCollections=com.example.note", nil)
	testenv.Until(t, "subscribers", func() bool { return v.Subscribers() >= 1 }) // it begins with what comes after that
	i := 0
	for m, err := range f.Messages(t.Context()) {
		if err != nil || m.Err != nil {
			t.Fatal(err, m.Err)
		}
		if m.Frame.Seq < n.last() {
			continue
		}
		i++
		switch {
		case i == 1:
			gone := &commit.Account{DID: alice, Status: "deleted", Time: time.Now()}
			if err := n.host.Delete(t.Context(), alice, storage.Event{DID: alice, Kind: commit.KindAccount, Time: gone.Time, Payload: gone.Payload()}); err != nil {
				t.Fatal(err)
			}
		case i < 10:
			n.write(bob, fmt.Sprintf("put com.example.note/%d x", i))
		}
		if i == 10 {
			break
		}
	}
	for m := j.next(); m.Commit == nil || m.Commit["rkey"] != "9"; m = j.next() {
	}
}

// verifierKey is the key of all accounts.
func (n *network) verifierKey(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) {
	if n.key == nil {
		return nil, errors.New("no key")
	}
	return n.key.PublicKey(), nil
}
