package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// restartWithout starts the app anew, without the events of the time before.
func (w *world) restartWithout(prepare func()) {
	w.t.Helper()
	w.stop()
	prepare()
	w.start()
}

func rkeyOf(uri syntax.ATURI) string { return string(uri[strings.LastIndex(string(uri), "/")+1:]) }

// TestFirstStart: an app that is started for the first time shows what the repositories have.
func TestFirstStart(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	first := w.say(alice, "👍")
	w.say(bob, "☕")
	if err := deleteStatus(w, alice.Client, string(alice.DID), rkeyOf(first.URI)); err != nil {
		t.Fatal(err)
	}
	w.say(alice, "🌱")
	w.wait("alice 🌱", "bob ☕")
	w.restartWithout(func() {
		files, _ := filepath.Glob(filepath.Join(w.set.dir, database+"*"))
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	})
	w.wait("alice 🌱", "bob ☕")
	w.say(bob, "🎧")
	w.wait("bob 🎧", "alice 🌱", "bob ☕")
}

// TestNothingWasSaid: an app that had its records from lists alone, and no event, finds what has
// happened while it was away.
func TestNothingWasSaid(t *testing.T) {
	w := newWorld(t)
	w.stop()
	files, _ := filepath.Glob(filepath.Join(w.set.dir, database+"*"))
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	w.say(alice, "👍")
	w.say(bob, "☕")
	w.start()
	w.wait("bob ☕", "alice 👍")
	w.restartWithout(func() {
		w.say(w.pds.Account("carol"), "🚀")
		if err := api.ServerDeactivateAccount(t.Context(), bob, api.ServerDeactivateAccountInput{}); err != nil {
			t.Fatal(err)
		}
	})
	w.wait("carol 🚀", "alice 👍")
}

// TestMissedEvents: what happened while the app was away is found, also what is not in the log any
// more, and also if the PDS has lost its own numbers.
func TestMissedEvents(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	first := w.say(alice, "👍")
	w.say(bob, "☕")
	w.wait("bob ☕", "alice 👍")
	w.restartWithout(func() {
		if err := deleteStatus(w, alice.Client, string(alice.DID), rkeyOf(first.URI)); err != nil {
			t.Fatal(err)
		}
		w.say(alice, "🌱")
		w.say(w.pds.Account("carol"), "🚀")
		if err := api.ServerDeactivateAccount(t.Context(), bob, api.ServerDeactivateAccountInput{}); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if err := w.pds.Store().Events.Trim(t.Context(), w.net.Clock.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		// There must be an event after those that are gone.
		w.say(alice, "🎧")
	})
	w.wait("alice 🎧", "carol 🚀", "alice 🌱")
	if err := api.ServerActivateAccount(t.Context(), bob); err != nil {
		t.Fatal(err)
	}
	w.wait("alice 🎧", "carol 🚀", "alice 🌱", "bob ☕")

	w.restartWithout(func() {
		x, err := index.Open(t.Context(), filepath.Join(w.set.dir, database))
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if _, err := x.SQL.ExecContext(t.Context(), "UPDATE cursor SET seq = seq + 3600000000"); err != nil {
			t.Fatal(err)
		}
		w.say(alice, "🌙")
	})
	w.wait("alice 🌙", "alice 🎧", "carol 🚀", "alice 🌱", "bob ☕")
}

// settle waits until the relay of the network has got everything, so that events may be deleted.
func (w *world) settle() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if err := w.net.Relay.Settle(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// fakeRelay passes on what a test gives it.
type fakeRelay struct {
	t    *testing.T
	mu   sync.Mutex
	seq  int64
	conn *websocket.Conn
}

func (f *fakeRelay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/xrpc/"+api.SyncSubscribeReposNSID {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"repos":[]}`)
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	f.conn = c
	f.mu.Unlock()
	c.Read(context.Background())
}

// raw sends bytes, when somebody listens.
func (f *fakeRelay) raw(b []byte) {
	f.t.Helper()
	eventually(f.t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.conn == nil {
			return fmt.Errorf("nobody follows")
		}
		return f.conn.Write(f.t.Context(), websocket.MessageBinary, b)
	})
}

// send sends a message.
func (f *fakeRelay) send(kind string, payload []byte) {
	f.t.Helper()
	f.seq++
	if v, err := data.Decode(payload, data.Limits{}); err == nil && len(payload) > 1 {
		v.(map[string]any)["seq"] = f.seq
		if payload, err = data.Encode(v); err != nil {
			f.t.Fatal(err)
		}
	}
	f.raw(stream.Frame{Kind: kind, Seq: f.seq, Payload: payload}.Encode())
}

// TestHostileRelay: what does not verify is not shown; what a relay leaves out is found.
func TestHostileRelay(t *testing.T) {
	relay := &fakeRelay{t: t}
	w := newWorld(t, func(s *settings) { s.firehose = "https://relay.test" })
	w.net.Handle("relay.test", relay)
	alice := w.pds.Account("alice")
	last := func(a *pdstest.Account) *commit.Event {
		t.Helper()
		w.settle()
		seen := w.net.Relay.Seen(a.DID)
		return seen[len(seen)-1].Commit
	}
	first := w.say(alice, "👍")
	relay.send(commit.KindCommit, last(alice).Payload())
	w.wait("alice 👍")

	// A commit that was changed on its way.
	w.say(alice, "💙")
	forged := bytes.ReplaceAll(last(alice).Payload(), []byte("💙"), []byte("💚"))
	relay.send(commit.KindCommit, forged)
	w.wait("alice 💙", "alice 👍")

	// One that is held back.
	if err := deleteStatus(w, alice.Client, string(alice.DID), rkeyOf(first.URI)); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.say(alice, "☕")
	relay.send(commit.KindCommit, last(alice).Payload())
	w.wait("alice ☕", "alice 💙")

	// The same once more, and an old one: nothing changes.
	relay.send(commit.KindCommit, last(alice).Payload())
	relay.send(commit.KindCommit, w.net.Relay.Seen(alice.DID)[len(w.net.Relay.Seen(alice.DID))-2].Commit.Payload())

	// #sync instead of commits.
	w.say(alice, "🌙")
	w.settle()
	head, err := w.pds.Server().Host.SyncEvent(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	relay.send(commit.KindSync, head.Payload)
	w.wait("alice 🌙", "alice ☕", "alice 💙")

	// A commit in the name of another account.
	mallory := w.pds.Account("mallory")
	w.say(mallory, "🤒")
	stolen := *last(mallory)
	stolen.Repo = alice.DID
	relay.send(commit.KindCommit, stolen.Payload())

	// Frames that are none.
	relay.send("#new", []byte{0xa0})
	relay.send(commit.KindCommit, []byte{0xa0})
	relay.send(commit.KindAccount, []byte{0xa0})
	relay.raw([]byte("no frame"))
	w.say(alice, "🎧")
	payload := last(alice).Payload()
	eventually(t, func() error { // it connects again
		relay.send(commit.KindCommit, payload)
		if got := w.shown(); len(got) == 0 || got[0] != "alice 🎧" {
			return fmt.Errorf("shown is %q", got)
		}
		return nil
	})
	w.wait("alice 🎧", "alice 🌙", "alice ☕", "alice 💙")
}
