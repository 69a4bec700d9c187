package pds

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"

	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

// Both versions are served to clients with the defaults of the official ones; where they are off, there is
// nothing.
func TestJetstream(t *testing.T) {
	for _, on := range []bool{true, false} {
		cfg := goodConfig(t)
		cfg.Policy.Domains = []string{".localhost.test"}
		cfg.Jetstream = Jetstream{On: on, First: dictionary.Plain()}
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(s)
		t.Cleanup(srv.Close)
		t.Cleanup(func() { s.Outbox.Close() })
		did := register(t, s, "alice")[0]
		read := func(path string, header http.Header) (websocket.MessageType, []byte) {
			c, _, err := websocket.Dial(t.Context(), srv.URL+path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"xrpc.v1.json"}})
			if (err == nil) != on {
				t.Fatalf("%s, on: %t: %v", path, on, err)
			}
			if !on {
				return 0, nil
			}
			defer c.CloseNow()
			typ, b, err := c.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return typ, b
		}
		typ, b := read(subscribePath+"?cursor=0&wantedDids="+string(did), http.Header{"Socket-Encoding": {"zstd"}})
		typ2, b2 := read("/xrpc/"+stream.SubscribeEventsNSID+"?cursor=0&kinds=account", nil)
		if !on {
			continue
		}
		r, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if b, err = r.DecodeAll(b, nil); err != nil || typ != websocket.MessageBinary || !strings.Contains(string(b), string(did)) {
			t.Errorf("version 1: %v %s, %v", typ, b, err)
		}
		if typ2 != websocket.MessageText || !strings.Contains(string(b2), `"account":{`) {
			t.Errorf("version 2: %v %s", typ2, b2)
		}
		resp, err := http.Post(srv.URL+"/xrpc/"+stream.PlanSnapshotNSID, "application/json", strings.NewReader(`{"dids":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		plan, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || !json.Valid(plan) {
			t.Errorf("plan: %d %s", resp.StatusCode, plan)
		}
		resp, err = http.Get(srv.URL + "/xrpc/" + stream.GetZstdDictionaryNSID)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("dictionary: %d", resp.StatusCode)
		}
	}
}
