//go:build !js

package stream_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// eventsServer serves a view of version 2.
func eventsServer(t *testing.T, n *network, zstd stream.Compressor) (*stream.EventsView, string) {
	t.Helper()
	v := &stream.EventsView{Outbox: n.out, Zstd: zstd}
	mux := http.NewServeMux()
	mux.Handle("/", v)
	mux.HandleFunc("/dictionary", v.ServeDictionary)
	mux.HandleFunc("/plan", v.ServePlan)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return v, srv.URL
}

// eventsMessage is a message of version 2, as a consumer decodes it.
type eventsMessage struct {
	Type    string         `json:"$type"`
	Payload map[string]any `json:"payload"`
	Error   string         `json:"error"`
}

// short is what tests compare of a message.
func (m eventsMessage) short() string {
	kind := strings.TrimPrefix(fmt.Sprint(m.Payload["$type"]), stream.SubscribeEventsNSID)
	switch {
	case m.Type != "message":
		return m.Type + " " + m.Error
	case kind == "#info":
		return "#info " + fmt.Sprint(m.Payload["name"])
	case kind == "#commit":
		return fmt.Sprintf("%s %s %s/%s", fmt.Sprint(m.Payload["did"])[8:9], m.Payload["operation"], m.Payload["collection"], m.Payload["rkey"])
	}
	return fmt.Sprintf("%s %s", fmt.Sprint(m.Payload["did"])[8:9], kind)
}

func (j *jsonClient) event() (m eventsMessage) {
	j.t.Helper()
	if err := json.Unmarshal([]byte(j.text()), &m); err != nil {
		j.t.Fatal(err)
	}
	return m
}

func (j *jsonClient) events(n int) (list []string) {
	j.t.Helper()
	for range n {
		list = append(list, j.event().short())
	}
	return list
}

var everything = []string{"a #sync", "a #identity", "a #account", "a create com.example.note/1", "a create com.example.other/2", "a delete com.example.note/1"}

// fill makes the events of everything, in some order of the first three.
func fill(n *network) (numbers []int64) {
	n.create(alice, "alice.test")
	two := n.write(alice, "put com.example.note/1 x", "put com.example.other/2 y")
	last := n.write(alice, "delete com.example.note/1")
	return []int64{two.Seq - 1, two.Seq, last.Seq}
}

// Every message is an object of its own with a type; the subprotocol is agreed to if it is offered; a
// message of the client's ends the connection.
func TestJ11Framing(t *testing.T) {
	n := newNetwork(t)
	_, url := eventsServer(t, n, nil)
	numbers := fill(n)
	for offer, want := range map[string]string{"": "", "xrpc.v1.json": "xrpc.v1.json", "XRPC.V1.JSON": "", "xrpc.v0.cbor": ""} {
		j := openJSON(t, url, "cursor=0", &websocket.DialOptions{Subprotocols: strings.Fields(offer)})
		same(t, "agreed to of "+offer, j.c.Subprotocol(), want)
	}
	j := openJSON(t, url, "cursor=0", &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover})
	got := j.events(3)
	for _, m := range everything[:3] {
		if !strings.Contains(strings.Join(got, ","), m) {
			t.Errorf("%q is not among %q", m, got)
		}
	}
	m := j.event()
	same(t, "type", m.Type, "message")
	when, err := time.Parse("2006-01-02T15:04:05.000000Z", m.Payload["time"].(string))
	if err != nil || time.Since(when).Abs() > time.Hour {
		t.Error(m.Payload["time"], err)
	}
	delete(m.Payload, "time")
	delete(m.Payload, "rev")
	cid := m.Payload["cid"]
	same(t, "commit", m.Payload, map[string]any{
		"$type": "network.bsky.jetstream.subscribeEvents#commit", "seq": float64(numbers[0]), "did": string(alice), "operation": "create",
		"collection": "com.example.note", "rkey": "1", "record": map[string]any{"$type": "com.example.note", "text": "x"}, "cid": cid,
	})
	m = j.event()
	same(t, "number of the second operation", m.Payload["seq"], any(float64(numbers[1])))
	m = j.event()
	if _, has := m.Payload["record"]; has || m.Payload["operation"] != "delete" {
		t.Errorf("%v", m.Payload)
	}
	same(t, "resumed inside a commit", openJSON(t, url, fmt.Sprint("cursor=", numbers[1]), nil).events(2), everything[4:])

	for _, typ := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		j := openJSON(t, url, "", nil)
		if err := j.c.Write(t.Context(), typ, []byte(`{"type":"options_update","payload":{}}`)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := j.c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Error(err)
		}
	}
}

// Other events have the message of subscribeRepos in them.
func TestJ11OtherEvents(t *testing.T) {
	n := newNetwork(t)
	_, url := eventsServer(t, n, nil)
	n.create(alice, "alice.test")
	for range 3 {
		m := openEvents(t, url, n)
		for kind, fields := range m {
			seq := fields["seq"]
			part, _ := fields[kind].(map[string]any)
			if part == nil || part["did"] != string(alice) || part["seq"] != seq || part["time"] == nil {
				t.Errorf("%s: %v", kind, fields)
			}
		}
		same(t, "handle", m["identity"]["identity"].(map[string]any)["handle"], any("alice.test"))
		same(t, "active", m["account"]["account"].(map[string]any)["active"], any(true))
		if blocks, _ := m["sync"]["sync"].(map[string]any)["blocks"].(map[string]any); blocks["$bytes"] == nil {
			t.Errorf("%v", m["sync"])
		}
	}
}

// openEvents reads the three events of a new account, by kind.
func openEvents(t *testing.T, url string, n *network) map[string]map[string]any {
	j := openJSON(t, url, "cursor=0", nil)
	list := make(map[string]map[string]any)
	for range 3 {
		m := j.event()
		_, kind, _ := strings.Cut(m.Payload["$type"].(string), "#")
		list[kind] = m.Payload
	}
	return list
}

// Kinds, accounts and collections restrict what is sent, each by itself; what is not understood is
// refused.
func TestJ11Parameters(t *testing.T) {
	n := newNetwork(t)
	_, url := eventsServer(t, n, nil)
	fill(n)
	end := "&cursor=0"
	for query, want := range map[string][]string{
		"kinds=commit" + end: everything[3:],
		"kinds=commit&collections=com.example.other" + end: everything[4:5],
		"kinds=commit&collections=com.example.note" + end:  {everything[3], everything[5]},
		"kinds=commit&collections=com.example.*" + end:     everything[3:],
		"kinds=identity" + end:                             {"a #identity"},
		"kinds=sync&kinds=sync" + end:                      {"a #sync"},
		"kinds=commit&dids=" + string(alice) + "&collections=com.example.other&maxMessageSizeBytes=4294967295" + end: everything[4:5],
	} {
		same(t, query, openJSON(t, url, query, nil).events(len(want)), want)
	}
	for _, query := range []string{
		"wantedDids=" + string(alice), "wantedCollections=a.b.c", "requireHello=true", "compress=true", "kinds=commits", "kinds=", "%zz",
		strings.Repeat("kinds=commit&", 5), strings.Repeat("collections=a.b.c&", 101), "collections=foo_bar.*", "collections=*", "dids=alice.test",
		"kinds=sync&collections=a.b.c", "cursor=-1", "cursor=x", "maxMessageSizeBytes=-1", "maxMessageSizeBytes=", "maxMessageSizeBytes=x",
		"maxMessageSizeBytes=4294967296", "maxMessageSizeBytes=1&maxMessageSizeBytes=1", "zstdDictionary=0", "zstdDictionary=x", "zstdDictionary=4294967296",
	} {
		code, text := status(t, url+"/?"+query, nil)
		if code != 400 || !strings.Contains(text, `"error":"InvalidRequest"`) {
			t.Errorf("%.40s: %d %s", query, code, text)
		}
	}
	if code, _ := status(t, url, http.Header{"Socket-Encoding": {"zstd"}}); code != 400 {
		t.Error(code)
	}
}

// Who is too slow is told so, and the connection is closed; at the end of the server too.
func TestJ11Ends(t *testing.T) {
	n := newNetwork(t)
	v, url := eventsServer(t, n, nil)
	j := openJSON(t, url, "", nil)
	testenv.Until(t, "subscribers", func() bool { return v.Subscribers() >= 1 })
	go n.out.Close()
	if _, _, err := j.c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
}

// trim drops all events that there are.
func (n *network) trim() {
	n.t.Helper()
	if err := n.store.Events.Trim(n.t.Context(), time.Now().Add(time.Hour)); err != nil {
		n.t.Fatal(err)
	}
}

// A number from before the log is refused with the log's floor, except 0; a time begins with a notice.
func TestJ12OldCursors(t *testing.T) {
	n := newNetwork(t)
	_, url := eventsServer(t, n, nil)
	fill(n)
	n.trim()
	after := n.write(alice, "put com.example.note/3 x")
	oldest, _, err := n.store.Events.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code, text := status(t, url+"/?cursor=5", nil)
	if code != 400 || !strings.Contains(text, `"error":"CursorTooOld"`) || !strings.Contains(text, fmt.Sprint(oldest)) {
		t.Errorf("%d %s, the floor is %d", code, text, oldest)
	}
	want := "a create com.example.note/3"
	same(t, "0", openJSON(t, url, "cursor=0", nil).events(1), []string{want})
	same(t, "a time", openJSON(t, url, "cursor=1600000000000000", nil).events(2), []string{"#info OutdatedCursor", want})
	same(t, "the floor", openJSON(t, url, fmt.Sprint("cursor=", oldest), nil).events(1), []string{want})
	same(t, "the newest", openJSON(t, url, fmt.Sprint("cursor=", after.Seq), nil).events(1), []string{want})
}

// The dictionary can be fetched, messages with it are read, and with another it says which one there is.
func TestJ12Dictionaries(t *testing.T) {
	n := newNetwork(t)
	d := compressor(t)
	_, url := eventsServer(t, n, d)
	_, without := eventsServer(t, n, nil)
	fill(n)
	get := func(url string) (int, []byte) {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	for query, want := range map[string]int{"": 200, "?id=32768": 200, "?id=7": 404, "?id=0": 400, "?id=x": 400} {
		code, b := get(url + "/dictionary" + query)
		if code != want || code == 200 && !bytes.Equal(b, d.Bytes()) {
			t.Errorf("%s: %d, %d bytes", query, code, len(b))
		}
	}
	same(t, "without", first(get(without+"/dictionary")), 404)
	for _, test := range []struct{ url, names string }{{url, fmt.Sprint(d.ID())}, {without, "no dictionary"}} {
		code, text := status(t, test.url+"/?zstdDictionary=7", nil)
		if code != 400 || !strings.Contains(text, `"error":"UnknownZstdDictionary"`) || !strings.Contains(text, test.names) {
			t.Errorf("%d %s", code, text)
		}
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderDicts(d.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, packed := openJSON(t, url, "cursor=0", nil), openJSON(t, url, fmt.Sprint("cursor=0&zstdDictionary=", d.ID()), nil)
	for range everything {
		want := plain.text()
		typ, frame, err := packed.c.Read(t.Context())
		if err != nil || typ != websocket.MessageBinary {
			t.Fatal(typ, err)
		}
		got, err := r.DecodeAll(frame, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "message", string(got), want)
	}
}

// The plan is empty, so that clients subscribe at once.
func TestPlanIsEmpty(t *testing.T) {
	_, url := eventsServer(t, newNetwork(t), nil)
	resp, err := http.Post(url+"/plan", "application/json", strings.NewReader(`{"afterSeq":0}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var plan map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&plan); err != nil {
		t.Fatal(err)
	}
	same(t, "plan", []any{plan["plannedThroughSeq"], plan["sealedTipSeq"], plan["segments"]}, []any{0.0, 0.0, []any{}})
}

// servePDS serves a view of version 2 under the names of its methods.
func servePDS(t *testing.T, v *stream.EventsView) string {
	mux := http.NewServeMux()
	mux.Handle("/xrpc/"+stream.SubscribeEventsNSID, v)
	mux.HandleFunc("/xrpc/"+stream.GetZstdDictionaryNSID, v.ServeDictionary)
	mux.HandleFunc("/xrpc/"+stream.PlanSnapshotNSID, v.ServePlan)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}
