//go:build !js

package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

// testDictionary is a dictionary of messages such as the tests have.
var testDictionary = sync.OnceValues(func() ([]byte, error) {
	var samples [][]byte
	for i := range 500 {
		samples = append(samples, fmt.Appendf(nil, `{"did":"did:plc:%024d","time_us":%d,"cursor":%d,"kind":"commit","commit":{"rev":"3k%011d","operation":"create","collection":"com.example.note","rkey":"%d","record":{"$type":"com.example.note","text":"text %d"},"cid":"bafyrei%d"}}`, i*i, i*1000, i*1000, i, i, i*7, i))
	}
	return dictionary.Train(32768, samples, 8<<10)
})

func compressor(t testing.TB) *dictionary.Dictionary {
	t.Helper()
	raw, err := testDictionary()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dictionary.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// text reads a message as it is.
func (j *jsonClient) text() string {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), 20*time.Second)
	defer cancel()
	typ, b, err := j.c.Read(ctx)
	if err != nil || typ != websocket.MessageText {
		j.t.Fatal(typ, err)
	}
	return string(b)
}

// status is that of the answer to a request for a connection.
func status(t testing.TB, url string, header http.Header) (int, string) {
	t.Helper()
	c, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: header})
	if err == nil {
		c.CloseNow()
		return http.StatusSwitchingProtocols, ""
	}
	if resp == nil {
		t.Error(err)
		return 0, ""
	}
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// Messages are what Jetstream sends for the same events, with the members of records in their order.
func TestJ01MessagesAreThoseOfJetstream(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	j := openJSON(t, url, "cursor=0", nil)
	n.create(alice, "alice.test")
	created := n.write(alice, "put com.example.note/one x")
	updated := n.write(alice, "put com.example.note/one <y> & z")
	deleted := n.write(alice, "delete com.example.note/one")
	number := func(text string) int64 {
		var m struct {
			Time int64 `json:"time_us"`
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		return m.Time
	}
	text := j.text()
	same(t, "identity", text, fmt.Sprintf(`{"did":"%[1]s","time_us":%[2]d,"cursor":%[2]d,"kind":"identity","identity":{"did":"%[1]s","handle":"alice.test","seq":%[2]d,"time":"2026-01-02T03:04:05.006Z"}}`, alice, number(text)))
	text = j.text()
	same(t, "account", text, fmt.Sprintf(`{"did":"%[1]s","time_us":%[2]d,"cursor":%[2]d,"kind":"account","account":{"active":true,"did":"%[1]s","seq":%[2]d,"time":"2026-01-02T03:04:05.006Z"}}`, alice, number(text)))
	same(t, "create", j.text(), fmt.Sprintf(`{"did":"%s","time_us":%[2]d,"cursor":%[2]d,"kind":"commit","commit":{"rev":"%s","operation":"create","collection":"com.example.note","rkey":"one","record":{"text":"x","$type":"com.example.note"},"cid":"%s"}}`, alice, created.Seq, created.Head.Rev, created.Records[0].CID))
	same(t, "update", j.text(), fmt.Sprintf(`{"did":"%s","time_us":%[2]d,"cursor":%[2]d,"kind":"commit","commit":{"rev":"%s","operation":"update","collection":"com.example.note","rkey":"one","record":{"text":"<y> & z","$type":"com.example.note"},"cid":"%s"}}`, alice, updated.Seq, updated.Head.Rev, updated.Records[0].CID))
	same(t, "delete", j.text(), fmt.Sprintf(`{"did":"%s","time_us":%[2]d,"cursor":%[2]d,"kind":"commit","commit":{"rev":"%s","operation":"delete","collection":"com.example.note","rkey":"one"}}`, alice, deleted.Seq, deleted.Head.Rev))
}

// The operations of a commit have numbers of their own, which grow, in replay as live.
func TestJ03EachOperationHasItsNumber(t *testing.T) {
	n := newNetwork(t)
	v, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	live := openJSON(t, url, "", nil)
	testenv.Until(t, "subscribers", func() bool { return v.Subscribers() >= 1 })
	res := n.write(alice, "put com.example.note/1 x", "put com.example.note/2 x", "put com.example.note/3 x")
	n.write(alice, "put com.example.note/4 x")
	times := func(j *jsonClient, k int) (list []int64) {
		for range k {
			list = append(list, j.next().Time)
		}
		return list
	}
	seen := times(live, 4)
	same(t, "live", seen[:3], []int64{res.Seq - 2, res.Seq - 1, res.Seq})
	if !slices.IsSorted(seen) || seen[3] <= seen[2] {
		t.Errorf("%d", seen)
	}
	same(t, "replay", times(openJSON(t, url, "cursor=0", nil), 6)[2:], seen)
	for i, at := range seen {
		same(t, fmt.Sprintf("resumed at %d", i), times(openJSON(t, url, fmt.Sprintf("cursor=%d", at), nil), 4-i), seen[i:])
	}
}

// A cursor is the first number wanted. One from the future means live, an ancient one the oldest.
func TestJ04Cursors(t *testing.T) {
	n := newNetwork(t)
	v, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	first := n.write(alice, "put com.example.note/1 x")
	same(t, "inclusive", openJSON(t, url, fmt.Sprint("cursor=", first.Seq), nil).next().Time, first.Seq)
	same(t, "ancient", openJSON(t, url, "cursor=1", nil).shorts(1), []string{"a identity"})
	future := openJSON(t, url, fmt.Sprint("cursor=", time.Now().Add(time.Hour).UnixMicro()), nil)
	testenv.Until(t, "subscribers", func() bool { return v.Subscribers() >= 1 })
	// It has to have looked at the newest number before the next event.
	testenv.Until(t, "the subscriber from the future", func() bool {
		return slices.ContainsFunc(n.out.Subscriptions(), func(s stream.Subscription) bool {
			return s.Seq == first.Seq && s.Cursor != nil && *s.Cursor > first.Seq
		})
	})
	second := n.write(alice, "put com.example.note/2 x")
	same(t, "future", future.next().Time, second.Seq)
	for _, cursor := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		if code, _ := status(t, url+"/?cursor="+cursor, nil); code != 400 {
			t.Errorf("cursor %s: %d", cursor, code)
		}
	}
}

// Whoever reads while others write gets every message once, in order, whenever he comes.
func TestJ05NoGapBetweenReplayAndLive(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.create(bob, "bob.test")
	const commits, readers = 60, 8
	var all sync.WaitGroup
	for _, did := range []syntax.DID{alice, bob} {
		all.Go(func() {
			for i := range commits {
				n.write(did, fmt.Sprintf("put com.example.note/%d x", 2*i), fmt.Sprintf("put com.example.note/%d x", 2*i+1))
			}
		})
	}
	got := make([][]string, readers)
	for r := range readers {
		j := openJSON(t, url, "cursor=0&wantedCollections=com.example.note", nil)
		all.Go(func() {
			last := int64(0)
			for len(got[r]) < 4+4*commits {
				_, b, err := j.c.Read(t.Context())
				var m jsonMessage
				if err == nil {
					err = json.Unmarshal(b, &m)
				}
				if err != nil || m.Time <= last {
					t.Errorf("%d after %d: %v", m.Time, last, err)
					return
				}
				last = m.Time
				got[r] = append(got[r], fmt.Sprint(m.Time, m.short()))
			}
		})
	}
	all.Wait()
	for r := range readers {
		same(t, "what a reader got", got[r], got[0])
	}
}

// Collections restrict commits only, accounts restrict all messages.
func TestJ06Filters(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.create(bob, "bob.test")
	n.write(alice, "put app.bsky.feed.post/1 x", "put app.bsky.feedback/1 x", "put app.bsky.graph.follow/1 x")
	n.write(bob, "put app.bsky.feed.post/2 x")
	n.write(bob, "put end.of.test/x x")
	people := []string{"a identity", "a account", "b identity", "b account"}
	for query, want := range map[string][]string{
		"wantedCollections=app.bsky.feed.post":                                                        append(slices.Clone(people), "a create app.bsky.feed.post/1", "b create app.bsky.feed.post/2"),
		"wantedCollections=app.bsky.feed.*":                                                           append(slices.Clone(people), "a create app.bsky.feed.post/1", "b create app.bsky.feed.post/2"),
		"wantedCollections=foo_bar.baz.*&wantedCollections=app..*":                                    people,
		"wantedCollections=app.bsky.graph.*&wantedDids=" + string(bob):                                {"b identity", "b account"},
		"wantedCollections=app.bsky.feed.post&wantedDids=" + string(bob):                              {"b identity", "b account", "b create app.bsky.feed.post/2"},
		"wantedCollections=app.bsky.feed.post&wantedDids=did:web:x.example&wantedDids=" + string(bob): {"b identity", "b account", "b create app.bsky.feed.post/2"},
	} {
		j := openJSON(t, url, "cursor=0&wantedCollections=end.of.test&"+query, nil)
		same(t, query, j.shorts(len(want)+1), append(want, "b create end.of.test/x"))
	}
}

// As many values as are possible are accepted, one more is not, and what is repeated counts once.
func TestJ07CapsCountDistinctValues(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	collections := func(k int) string {
		var b strings.Builder
		for i := range k {
			fmt.Fprintf(&b, "wantedCollections=com.example.a%d&", i)
		}
		return b.String()
	}
	mixed := collections(60) + strings.Repeat("wantedCollections=com.example.*&wantedCollections=com.example.a1&", 500)
	for query, want := range map[string]int{
		collections(100): 101, collections(101): 400, mixed: 101,
		collections(100) + "wantedCollections=com.example.*": 400,
	} {
		code, _ := status(t, url+"/?"+query, nil)
		same(t, fmt.Sprintf("%.40s… of %d bytes", query, len(query)), code, want)
	}
	dids := func(k int) string {
		list := make([]string, k)
		for i := range list {
			list[i] = fmt.Sprintf(`"did:web:x%d.example"`, i%10_001)
		}
		return `{"type":"options_update","payload":{"wantedDids":[` + strings.Join(list, ",") + `]}}`
	}
	for _, test := range []struct {
		update string
		code   websocket.StatusCode
	}{
		{dids(10_000), 0},
		{strings.Replace(dids(10_000), "]", strings.Repeat(`,"did:web:x7.example"`, 10_000)+"]", 1), 0},
		{dids(10_001), websocket.StatusPolicyViolation},
	} {
		j := openJSON(t, url, "requireHello=true&cursor=0", nil)
		if err := j.c.Write(t.Context(), websocket.MessageText, []byte(test.update)); err != nil {
			t.Fatal(err)
		}
		same(t, "closed with", j.closed(test.code != 0), test.code)
	}
}

// closed returns the code that the connection is closed with, or, if that is not expected, 0 when it
// still answers a ping.
func (j *jsonClient) closed(expected bool) websocket.StatusCode {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), 20*time.Second)
	defer cancel()
	if !expected {
		ctx = j.c.CloseRead(ctx)
		if err := j.c.Ping(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
		return 0
	}
	_, _, err := j.c.Read(ctx)
	return websocket.CloseStatus(err)
}

// An update swaps the filters; one that is wrong ends the connection with a reason; other messages
// are ignored; and with requireHello nothing is sent before the first.
func TestJ08Updates(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/1 x", "put com.example.other/1 x")
	for text, want := range map[string]websocket.StatusCode{
		`{`:                         websocket.StatusInvalidFramePayloadData,
		`[]`:                        websocket.StatusInvalidFramePayloadData,
		`{"type":7}`:                websocket.StatusInvalidFramePayloadData,
		`{"type":"options_update"}`: websocket.StatusInvalidFramePayloadData,
		`{"type":"options_update","payload":{"wantedDids":"x"}}`:                                        websocket.StatusInvalidFramePayloadData,
		`{"type":"options_update","payload":{"wantedDids":["x"]}}`:                                      websocket.StatusPolicyViolation,
		`{"type":"options_update","payload":{"wantedCollections":["x"]}}`:                               websocket.StatusPolicyViolation,
		`{"type":"options_update","payload":{"wantedDids":[` + strings.Repeat(`"",`, 250_000) + `""]}}`: websocket.StatusPolicyViolation,
	} {
		j := openJSON(t, url, "requireHello=true&cursor=0", nil)
		if err := j.c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, _, err := j.c.Read(t.Context())
		if got := websocket.CloseStatus(err); got != want {
			t.Errorf("%.60s: %v", text, err)
		}
	}
	j := openJSON(t, url, "requireHello=true&cursor=0", nil)
	for _, m := range []struct {
		typ  websocket.MessageType
		text string
	}{
		{websocket.MessageText, `{"type":"of the future","payload":[1]}`},
		{websocket.MessageBinary, "not JSON"},
		{websocket.MessageText, `{"type":"options_update","payload":{"wantedCollections":["com.example.other"],"maxMessageSizeBytes":-1}}`},
	} {
		if err := j.c.Write(t.Context(), m.typ, []byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	// Had anything been sent before the update, com.example.note would be among it.
	same(t, "after the hello", j.shorts(3), []string{"a identity", "a account", "a create com.example.other/1"})
}

// A list of the most and the longest DIDs has a megabyte and more, and fits into an update.
func TestJ08TheLargestUpdate(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	dids := []string{string(alice)}
	for i := range 9_999 {
		dids = append(dids, fmt.Sprintf("did:web:x%d.%s.example.com", i, strings.Repeat("a", 60)+"."+strings.Repeat("b", 60)))
	}
	update, err := json.Marshal(map[string]any{"type": "options_update", "payload": map[string]any{"wantedDids": dids}})
	if err != nil || len(update) < 1<<20 {
		t.Fatal(len(update), err)
	}
	j := openJSON(t, url, "requireHello=true&cursor=0", nil)
	if err := j.c.Write(t.Context(), websocket.MessageText, update); err != nil {
		t.Fatal(err)
	}
	same(t, "after the hello", j.shorts(2), []string{"a identity", "a account"})
	j = openJSON(t, url, "requireHello=true&cursor=0", nil)
	j.c.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte(" "), 10_000_001)) // it may be cut off
	if _, _, err := j.c.Read(t.Context()); err == nil {
		t.Error("a message of more than 10 MB is accepted")
	}
}

// A message of exactly the size that is wanted is sent, one of a byte more is not; what is no size is
// no bound.
func TestJ09MessageSize(t *testing.T) {
	n := newNetwork(t)
	_, url := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/1 "+strings.Repeat("x", 500))
	n.write(alice, "put end.of.test/x x")
	j := openJSON(t, url, "cursor=0&wantedCollections=com.example.note", nil)
	j.next()
	j.next()
	size := len(j.text())
	end := []string{"a identity", "a account", "a create end.of.test/x"}
	whole := []string{"a identity", "a account", "a create com.example.note/1", "a create end.of.test/x"}
	for bound, want := range map[string][]string{
		fmt.Sprint(size): whole, fmt.Sprint(size - 1): end,
		"0": whole, "-1": whole, "abc": whole, "99999999999999999999": whole, "4294967296": whole, "": whole,
	} {
		same(t, bound, openJSON(t, url, "cursor=0&maxMessageSizeBytes="+bound, nil).shorts(len(want)), want)
	}
}

// Compressed messages are binary, one frame each, and name the dictionary.
func TestJ10Zstd(t *testing.T) {
	n := newNetwork(t)
	d := compressor(t)
	url := httptest.NewServer(&stream.JSONView{Outbox: n.out, Zstd: d, Compress: true})
	t.Cleanup(url.Close)
	_, plain := serveJSON(t, n, false)
	n.create(alice, "alice.test")
	n.write(alice, "put com.example.note/1 x", "put com.example.note/2 y")
	texts := openJSON(t, plain, "cursor=0", nil)
	var want []string
	for range 4 {
		want = append(want, texts.text())
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderDicts(d.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	header := http.Header{"Socket-Encoding": {"zstd"}}
	for name, open := range map[string]*jsonClient{
		"header":    openJSON(t, url.URL, "cursor=0", &websocket.DialOptions{HTTPHeader: header}),
		"parameter": openJSON(t, url.URL, "cursor=0&compress=true&maxMessageSizeBytes="+fmt.Sprint(len(want[2])), nil),
	} {
		for _, text := range want {
			typ, frame, err := open.c.Read(t.Context())
			if err != nil || typ != websocket.MessageBinary {
				t.Fatal(name, typ, err)
			}
			var h zstd.Header
			if err := h.Decode(frame); err != nil || h.DictionaryID != d.ID() {
				t.Fatalf("%s: dictionary %d, %v", name, h.DictionaryID, err)
			}
			got, err := r.DecodeAll(frame, nil)
			if err != nil {
				t.Fatal(name, err)
			}
			same(t, name, string(got), text)
		}
	}
	same(t, "neither asked for", openJSON(t, url.URL, "cursor=0&compress=yes", nil).text(), want[0])
	deflate := http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}
	both := deflate.Clone()
	both.Set("Socket-Encoding", "zstd")
	for name, got := range map[string]int{
		"both, by header":    first(status(t, url.URL, both)),
		"both, by parameter": first(status(t, url.URL+"/?compress=true", deflate)),
		"no zstd here":       first(status(t, plain, header)),
	} {
		same(t, name, got, 400)
	}
	_, text := status(t, url.URL, both)
	if strings.HasPrefix(text, "{") {
		t.Errorf("an error of version 1 is %q", text)
	}
}

func first[A, B any](a A, _ B) A { return a }

// countingCompressor counts what is compressed.
type countingCompressor struct {
	*dictionary.Dictionary
	mu sync.Mutex
	n  int
}

func (c *countingCompressor) AppendFrame(dst, m []byte) []byte {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.Dictionary.AppendFrame(dst, m)
}

// However many read, a message is compressed once, and not at all if nobody wants that.
func TestJ10EachMessageIsCompressedOnce(t *testing.T) {
	n := newNetwork(t)
	d := &countingCompressor{Dictionary: dictionary.Plain()}
	v := &stream.JSONView{Outbox: n.out, Zstd: d}
	srv := httptest.NewServer(v)
	t.Cleanup(srv.Close)
	n.create(alice, "alice.test")
	read := func(c *jsonClient) {
		if _, _, err := c.c.Read(t.Context()); err != nil {
			t.Error(err)
		}
	}
	var all []*jsonClient
	plain := openJSON(t, srv.URL, "", nil)
	for range 20 {
		all = append(all, openJSON(t, srv.URL, "compress=true", nil))
	}
	testenv.Until(t, "subscribers", func() bool {
		return v.Subscribers() >= 21 && !slices.ContainsFunc(n.out.Subscriptions(), func(s stream.Subscription) bool { return s.Seq == 0 })
	})
	for i := range 5 {
		n.write(alice, fmt.Sprintf("put com.example.note/%d x", i))
		read(plain)
		for _, c := range all {
			read(c)
		}
	}
	same(t, "compressed", d.n, 5)
}
