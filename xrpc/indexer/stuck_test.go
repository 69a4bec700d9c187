package indexer_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// TestUnreadableFrame: an event of a host cannot be read, however often the host is asked for it. After
// some attempts it is passed over, and what it said is found by comparing all accounts.
func TestUnreadableFrame(t *testing.T) {
	for name, frame := range map[string][]byte{"malformed": {0xff}, "too long": make([]byte, 6<<20)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				h := w.host("one.test")
				alice, bob := h.account("alice", 5), h.account("bob", 1)
				a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
				a.settle(nil, alice, bob)
				h.write(alice, create(notes, "read", "x"))
				a.settle(nil, alice, bob)
				at := a.ix.Progress().Sources[0].Done
				var mu sync.Mutex
				var cursors []string
				h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					cursor := r.URL.Query().Get("cursor")
					if !strings.HasSuffix(r.URL.Path, api.SyncSubscribeReposNSID) || cursor == "" {
						return false
					}
					mu.Lock()
					cursors = append(cursors, cursor)
					mu.Unlock()
					c, err := websocket.Accept(rw, r, nil)
					if err != nil {
						t.Error(err)
						return true
					}
					defer c.CloseNow()
					_ = c.Write(r.Context(), websocket.MessageBinary, frame) // it may not be read to its end
					<-c.CloseRead(r.Context()).Done()
					return true
				})
				h.outbox.Close() // the connection breaks
				next := newOutbox(h.store.Events)
				defer next.Close()
				h.hmu.Lock()
				h.outbox = next
				h.hmu.Unlock()
				h.write(alice, create(notes, "unreadable", "x"))
				h.write(bob, remove(notes, "r0"))
				a.settle(nil, alice, bob)
				mu.Lock()
				defer mu.Unlock()
				if want := slices.Repeat([]string{strconv.FormatInt(at, 10)}, 3); !slices.Equal(cursors, want) {
					t.Errorf("the cursors were %q, not %q", cursors, want)
				}
				h.write(bob, create(notes, "after", "x")) // and it is followed
				a.want(bob, "followed", func(indexer.Account) bool { return a.compare(nil, bob) == nil })
				if n := a.progress().Commits; n == 0 {
					t.Error("no commit came as an event after it")
				}
			})
		})
	}
}
