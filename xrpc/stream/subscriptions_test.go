package stream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/testenv"
)

func TestSubscriptions(t *testing.T) {
	log := newLog(10) // numbers 2 to 20
	o := &Outbox{Events: log}
	defer o.Close()
	view := &JSONView{Outbox: o}
	mux := http.NewServeMux()
	mux.Handle("/frames", o)
	mux.Handle("/json", view)
	url := serveHTTP(t, mux)
	dial := func(path, agent string) *websocket.Conn {
		c, _, err := dialWith(t, url+path, http.Header{"User-Agent": {agent}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		return c
	}
	frames := dial("/frames?cursor=10", "relay/1.0 \xff"+strings.Repeat("x", 1000))
	numbers(t, frames, 5)
	dial("/json", "reader")
	testenv.Until(t, "two are listed", func() bool { return len(o.Subscriptions()) == 2 })
	list := o.Subscriptions()
	a, b := list[0], list[1]
	if a.ID == b.ID || a.Cursor == nil || *a.Cursor != 10 || a.JSON || !b.JSON || b.Cursor != nil || a.Address != "127.0.0.1" || b.Agent != "reader" || a.Since.IsZero() {
		t.Errorf("%+v", list)
	}
	if !strings.HasPrefix(a.Agent, "relay/1.0 x") || len(a.Agent) > maxAgent {
		t.Errorf("agent %q", a.Agent)
	}
	testenv.Until(t, "it has seen all", func() bool { s := o.Subscriptions()[0]; return s.Seq == 20 && s.Waiting == 0 && !s.Past })
	if o.End(77) {
		t.Error("ended what there is not")
	}
	if !o.End(a.ID) {
		t.Error("not ended")
	}
	testenv.Until(t, "one is left", func() bool { o.End(a.ID); list := o.Subscriptions(); return len(list) == 1 && list[0].ID == b.ID })
	if _, _, err := frames.Read(t.Context()); err == nil {
		t.Error("the connection goes on")
	}
}

func TestWaitingBytes(t *testing.T) {
	w := newWindow(10)
	items := []*item{{seq: 12, messages: []message{{bytes: make([]byte, 100)}}}, {seq: 14}, {seq: 16}}
	w.add(items, 1<<20)
	total := int64(0)
	for i := 2; i >= 0; i-- {
		total += int64(items[i].size())
		if n, past := w.waiting(items[i].seq - 1); n != total || past {
			t.Errorf("before %d: %d bytes, %v; want %d", items[i].seq, n, past, total)
		}
	}
	if n, past := w.waiting(16); n != 0 || past {
		t.Errorf("at the end: %d, %v", n, past)
	}
	if _, past := w.waiting(9); !past {
		t.Error("a position from before the window is not past")
	}
	w.add([]*item{{seq: 18}, {seq: 20}}, 3*items[1].size()) // lets the first ones go
	if n, past := w.waiting(18); n != int64(items[1].size()) || past {
		t.Errorf("%d, %v", n, past)
	}
}
