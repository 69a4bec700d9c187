package migrate

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/xrpc"
)

type answers = map[string]func(http.ResponseWriter, *http.Request) bool

// trickle answers with a byte now and then, without end.
func trickle(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", "application/json")
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return true
		case <-tick.C:
		}
		if _, err := io.WriteString(w, " "); err != nil {
			return true
		}
		w.(http.Flusher).Flush()
	}
}

// flood answers with bytes as fast as they are taken, without end.
func flood(w http.ResponseWriter, r *http.Request) bool {
	chunk := strings.Repeat(" ", 64<<10)
	for {
		if _, err := io.WriteString(w, chunk); err != nil {
			return true
		}
	}
}

// hang answers nothing.
func hang(w http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body) // else the end of the connection is not noticed
	<-r.Context().Done()
	return true
}

// quick is a pace that hostile servers fall behind soon. Honest answers may take their time.
var quick = &pace{grace: 100 * time.Millisecond, perSec: 1 << 20, answer: time.Minute, long: time.Minute}

// TestServersThatTakeTheirTime: a server that answers slowly or not at all ends the move, whatever
// it was asked for.
func TestServersThatTakeTheirTime(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	a.register(nil)
	for _, side := range []string{"old", "new"} {
		methods := []string{"com.atproto.server.describeServer", "com.atproto.server.createSession", "com.atproto.sync.getLatestCommit", "com.atproto.sync.getRepo",
			"com.atproto.sync.getBlob", "com.atproto.server.getServiceAuth", "app.bsky.actor.getPreferences"}
		if side == "new" {
			methods = []string{"com.atproto.server.describeServer", "com.atproto.repo.importRepo", "com.atproto.repo.listMissingBlobs", "com.atproto.repo.uploadBlob", "com.atproto.server.checkAccountStatus"}
		}
		for _, method := range methods {
			for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{"trickles": trickle, "hangs": hang} {
				t.Run(side+" server "+name+" at "+method, func(t *testing.T) {
					from, to := a, b
					if side == "old" {
						from = front(t, a, answers{method: answer})
					} else {
						to = front(t, w.start(), answers{method: answer}) // that has no blobs yet
					}
					p := *quick
					if name == "hangs" {
						p.methods = map[string]time.Duration{method: 50 * time.Millisecond}
					}
					opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password", Patience: -1, pace: &p}
					if err := runMove(t, w, from, to, opt); !errors.Is(err, errStalled) {
						t.Errorf("error %v", err)
					}
				})
			}
		}
	}
}

// TestServersThatSendTooMuch: what has no end ends at a bound.
func TestServersThatSendTooMuch(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	a.register(nil)
	for method, want := range map[string]string{
		"com.atproto.server.describeServer": "more than", "com.atproto.sync.getLatestCommit": "more than",
		"com.atproto.sync.getRepo": "more than 1000000 bytes", "com.atproto.sync.getBlob": "more than 100000 bytes",
		"app.bsky.actor.getPreferences": "more than",
	} {
		t.Run(method, func(t *testing.T) {
			opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password", Patience: -1, MaxRepo: 1_000_000, MaxBlob: 100_000}
			if err := runMove(t, w, front(t, a, answers{method: flood}), w.start(), opt); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestListsWithoutEnd: a new server whose list of missing blobs goes round in circles, or has ever
// new blobs, is found out.
func TestListsWithoutEnd(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	a.register(nil)
	n := 0
	page := func(cursor string, blobs int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			list := []any{}
			for range blobs {
				n++
				list = append(list, map[string]any{"cid": dag.Sum(dag.Raw, fmt.Append(nil, n)).String(), "recordUri": "at://x"})
			}
			next := cursor
			if next == "" {
				next = map[string]string{"": "one", "one": "two", "two": "one"}[r.URL.Query().Get("cursor")]
			} else {
				next = fmt.Sprint(n)
			}
			xrpc.WriteJSON(w, 200, map[string]any{"cursor": next, "blobs": list})
			return true
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{"in circles": page("", 1), "ever new": page("new", 500)} {
		t.Run(name, func(t *testing.T) {
			opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password", Patience: -1, AllowMissingBlobs: true}
			if err := runMove(t, w, a, front(t, b, answers{"com.atproto.repo.listMissingBlobs": answer}), opt); !errors.Is(err, ErrDiffers) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestPace: a transfer may take its time as long as it keeps the pace, in both directions.
func TestPace(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	defer srv.Close()
	p := pace{grace: time.Hour, perSec: 1, answer: time.Hour, long: time.Hour}
	c := &http.Client{Transport: &pacedTransport{http.DefaultTransport, p}}
	resp, err := c.Post(srv.URL, "text/plain", strings.NewReader(strings.Repeat("x", 1_000_000)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || string(text) != "1000000" || resp.Body.Close() != nil {
		t.Errorf("%s, %v", text, err)
	}
	if got := p.allowed(3600); got != 2*time.Hour {
		t.Errorf("3600 bytes may take %v", got)
	}
}
