package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// TestNotAcked: what was not acknowledged comes again, after a while, at another socket, and after a
// restart, with the same number; nothing after a live event comes before it is acknowledged.
func TestNotAcked(t *testing.T) {
	w := newWorld(t, "-retry-timeout", "300ms").start()
	alice := w.pds.Account("alice")
	w.repos("add", string(alice.DID))
	c := w.connect()
	c.take(1)
	w.active(alice)
	alice.Put(notes, "1", note("one"))
	alice.Put(notes, "2", note("two"))
	first := c.next()
	again := c.next()
	if text(first) != "live create com.example.note/1 one" || again.ID != first.ID {
		t.Errorf("%s, %s", text(first), text(again))
	}
	c.conn.CloseNow()
	c = w.connect()
	if m := c.next(); m.ID != first.ID {
		t.Error(text(m))
	}
	w.stop()
	w.start()
	c = w.connect()
	m := c.next()
	if m.ID != first.ID || text(m) != text(first) {
		t.Error(text(m))
	}
	c.ack(m)
	if m = c.next(); text(m) != "live create com.example.note/2 two" {
		t.Error(text(m))
	}
	c.ack(m)
	w.eventually(w.empty)
}

// TestForget: with -disable-acks nothing is waited for.
func TestForget(t *testing.T) {
	w := newWorld(t, "-disable-acks").start()
	alice := w.pds.Account("alice")
	w.repos("add", string(alice.DID))
	w.active(alice)
	for i := range 3 {
		alice.Put(notes, syntax.RecordKey(fmt.Sprint(i)), note("x"))
	}
	c := w.connect()
	for i, want := range []string{"identity alice.pds1.test true active", "live create com.example.note/0 x", "live create com.example.note/1 x", "live create com.example.note/2 x"} {
		if got := text(c.next()); got != want {
			t.Errorf("%d: %s", i, got)
		}
	}
	w.ok(c.conn.Write(t.Context(), websocket.MessageText, []byte("anything"))) // is not looked at
	w.eventually(w.empty)
}

// TestWebhook: events are posted until they are taken, in order, and one repository that is refused
// does not hold up others.
func TestWebhook(t *testing.T) {
	h, url := newHook(t)
	w := newWorld(t, "-webhook-url", url, "-admin-password", "secret")
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	broken, tries := true, 0
	h.refuse = func(m message) bool {
		if m.Record != nil && m.Record.DID == alice.DID && broken {
			tries++
			return true
		}
		return false
	}
	w.start()
	w.url = strings.Replace(w.url, "http://", "http://admin:secret@", 1)
	w.repos("add", string(alice.DID), string(bob.DID))
	w.active(alice)
	w.active(bob)
	for i := range 5 {
		alice.Put(notes, syntax.RecordKey(fmt.Sprint(i)), note("a"))
		bob.Put(notes, syntax.RecordKey(fmt.Sprint(i)), note("b"))
	}
	of := func(did syntax.DID) (list []string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range h.got {
			if m.Record != nil && m.Record.DID == did {
				list = append(list, string(m.Record.RKey))
			}
		}
		return list
	}
	all := []string{"0", "1", "2", "3", "4"}
	w.eventually(func() error {
		h.mu.Lock()
		n := tries
		h.mu.Unlock()
		if got := of(bob.DID); !slices.Equal(got, all) || n < 3 {
			return fmt.Errorf("%v, %d", got, n)
		}
		return nil
	})
	if got := of(alice.DID); got != nil {
		t.Error(got)
	}
	h.mu.Lock()
	broken = false
	if h.auth != "Basic YWRtaW46c2VjcmV0" {
		t.Error(h.auth)
	}
	h.mu.Unlock()
	w.eventually(w.empty)
	if got := of(alice.DID); !slices.Equal(got, all) {
		t.Error(got)
	}
	if status, body := w.request("GET", "/channel", ""); status != 400 || body != `{"message":"websocket not available in webhook mode"}` {
		t.Error(status, body)
	}
}

// TestFull: when the outbox is full, the indexer waits; nothing is dropped.
func TestFull(t *testing.T) {
	w := newWorld(t, "-outbox-capacity", "5").start()
	alice := w.pds.Account("alice")
	w.repos("add", string(alice.DID))
	w.active(alice)
	for i := range 40 {
		alice.Put(notes, syntax.RecordKey(fmt.Sprintf("%02d", i)), note("x"))
	}
	var n int
	for end := time.Now().Add(30 * time.Second); n < 5 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		_, body := w.request("GET", "/stats/outbox-buffer", "")
		fmt.Sscanf(body, `{"outbox_buffer":%d}`, &n)
	}
	time.Sleep(100 * time.Millisecond) // in which it would fill further, if it did not wait
	_, body := w.request("GET", "/stats/outbox-buffer", "")
	if fmt.Sscanf(body, `{"outbox_buffer":%d}`, &n); n < 5 || n > 30 {
		t.Error(n)
	}
	w.repos("add", string(w.pds.Account("bob").DID)) // does not wait
	c := w.connect()
	i := 0
	for i < 40 {
		m := c.next()
		c.ack(m)
		if m.Record == nil {
			continue
		}
		if want := fmt.Sprintf("live create com.example.note/%02d x", i); text(m) != want {
			t.Errorf("%s, want %s", text(m), want)
		}
		i++
	}
}

// TestSockets: sockets share the work; one that takes nothing does not hold up the others for good.
func TestSockets(t *testing.T) {
	w := newWorld(t, "-retry-timeout", "500ms").start()
	stuck, err := websocketDial(w)
	w.ok(err)
	defer stuck.CloseNow()
	a, b := w.connect(), w.connect()
	var accounts []*pdstest.Account
	for i := range 6 {
		accounts = append(accounts, w.pds.Account(fmt.Sprint("name", i)))
		w.repos("add", string(accounts[i].DID))
	}
	for _, acct := range accounts {
		w.active(acct)
		for i := range 5 {
			acct.Put(notes, syntax.RecordKey(fmt.Sprint(i)), note("x"))
		}
	}
	seen := make(map[string]bool)
	got := [2]int{}
	counts := make(map[string]int)
	for end := time.After(30 * time.Second); len(seen) < 36; {
		var m message
		select {
		case m = <-a.events:
			got[0]++
			a.ack(m)
		case m = <-b.events:
			got[1]++
			b.ack(m)
		case <-end:
			for _, acct := range accounts {
				_, body := w.request("GET", "/info/"+string(acct.DID), "")
				t.Log(body)
			}
			_, body := w.request("GET", "/stats/outbox-buffer", "")
			t.Fatalf("%d events came %v %v", len(seen), counts, body)
		}
		seen[fmt.Sprint(m.ID)] = true
		if m.Record != nil {
			counts[string(m.Record.DID)]++
		}
	}
	if got[0] == 0 || got[1] == 0 {
		t.Error(got)
	}
}

func websocketDial(w *world) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(w.Context(), strings.Replace(w.url, "http", "ws", 1)+"/channel", nil)
	return conn, err
}

// TestNoReplay: with -no-replay, what was missed does not come from the stream; repositories are compared
// with their hosts.
func TestNoReplay(t *testing.T) {
	w := newWorld(t, "-no-replay")
	alice := w.pds.Account("alice")
	alice.Put(notes, "1", note("x"))
	w.start()
	c := w.connect()
	w.repos("add", string(alice.DID))
	c.take(2)
	alice.Put(notes, "2", note("x"))
	c.take(1)
	w.eventually(func() error { return w.empty() })
	w.stop()
	w.remove(alice, notes, "1")
	alice.Put(notes, "2", note("changed"))
	w.start()
	got := w.connect().take(2)
	slices.Sort(got)
	if want := []string{"old delete com.example.note/1", "old update com.example.note/2 changed"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
