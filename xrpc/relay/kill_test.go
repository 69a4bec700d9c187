package relay_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Settings of the process that is killed.
const (
	childFile = "PDSKIT_RELAY_CHILD"
	childHost = "PDSKIT_RELAY_HOST"
	accounts  = 8
)

// onLocalhost makes the accounts of a host, which both processes know.
func onLocalhost(t testing.TB, host string) (dir *directory, list []*account) {
	dir = newDirectory()
	for i := range accounts {
		a := newAccount(t, syntax.DID(fmt.Sprintf("did:web:a%d.example", i)), host)
		dir.set(a)
		list = append(list, a)
	}
	return dir, list
}

// openRelay opens the relay of a file.
func openRelay(t testing.TB, file, host string) (*relay.Relay, func() error) {
	db, err := sqlite.Open(t.Context(), file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := onLocalhost(t, host)
	return &relay.Relay{Store: db.Store(), Identity: dir, HTTP: http.DefaultClient, Development: true, Limits: relay.Limits{Rate: -1}}, db.Close
}

// TestRelayChild is the process that is killed.
func TestRelayChild(t *testing.T) {
	file := os.Getenv(childFile)
	if file == "" {
		t.Skip("it is run by TestR06Kill")
	}
	r, _ := openRelay(t, file, os.Getenv(childHost))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(l, r.Outbox())
	if err := r.AddHost(t.Context(), os.Getenv(childHost)); err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening", l.Addr())
	t.Fatal(r.Run(t.Context()))
}

// A relay is killed again and again, while hosts speak and somebody reads what it says. In the end
// everything is there, once and in order, and as it was told. This is R29, too.
func TestR06Kill(t *testing.T) {
	testenv.NotOnJS(t, "it has no processes")
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	h := &fakeHost{w: &world{t: t, dir: newDirectory()}, accounts: make(map[syntax.DID]*account), status: make(map[syntax.DID]string), asked: make(map[string]int)}
	h.reset()
	srv := httptest.NewServer(h)
	defer srv.Close()
	defer h.setDown(true)
	host := strings.Replace(strings.TrimPrefix(srv.URL, "http://"), "127.0.0.1", "localhost", 1)
	_, list := onLocalhost(t, host)
	for _, a := range list {
		h.take(a)
	}
	file := filepath.Join(t.TempDir(), "relay.sqlite")
	told := &telling{seen: make(map[int64][sha256.Size]byte)}
	n := 0
	for range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestRelayChild$")
		child.Env = append(os.Environ(), childFile+"="+file, childHost+"="+host)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		addr := ""
		for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
			addr, _ = strings.CutPrefix(lines.Text(), "listening ")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var reads sync.WaitGroup
		reads.Go(func() { told.read(ctx, "http://"+addr) })
		want := told.count() + 40
		for told.count() < want { // kill it in the middle of work
			for range 8 {
				h.post(list[n%len(list)])
				n++
			}
			time.Sleep(time.Millisecond)
		}
		child.Process.Kill()
		child.Wait()
		cancel()
		reads.Wait()
	}
	r, done := openRelay(t, file, host)
	defer done()
	run(t, r)
	deadline, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for _, a := range list {
		for {
			if got, err := r.Account(deadline, a.did); err == nil && got.Head.Rev == a.commit.Rev {
				break
			} else if deadline.Err() != nil {
				t.Fatalf("%s is at %s, not %s: %v", a.did, got.Head.Rev, a.commit.Rev, err)
			}
			_, newest, _ := r.Store.Events.Bounds(deadline)
			wait, stop := context.WithTimeout(deadline, time.Second)
			r.Store.Events.Wait(wait, newest)
			stop()
		}
	}
	checkLog(t, r.Store, told.seen, n)
}

// telling remembers what a relay has told.
type telling struct {
	mu   sync.Mutex
	last int64
	seen map[int64][sha256.Size]byte
}

func (s *telling) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func (s *telling) read(ctx context.Context, url string) {
	s.mu.Lock()
	cursor := s.last
	s.mu.Unlock()
	c := stream.Consumer{URL: url, Cursor: &cursor, Retry: func(err error) error { return err }}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen[f.Seq], s.last = sha256.Sum256(f.Encode()), f.Seq
		s.mu.Unlock()
	}
}

// checkLog checks that a log has each commit once, and all that was told as it was told.
func checkLog(t *testing.T, store storage.Store, told map[int64][sha256.Size]byte, commits int) {
	t.Helper()
	states := make(map[syntax.DID]commit.State)
	v := &commit.Verifier{}
	n := 0
	for e, err := range store.Events.Since(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		m, err := commit.DecodeEvent(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if states[e.DID], _, err = v.Commit(t.Context(), states[e.DID], m); err != nil {
			t.Fatalf("event %d: %v", e.Seq, err)
		}
		frame, err := stream.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		if hash, ok := told[e.Seq]; ok && hash != sha256.Sum256(frame) {
			t.Errorf("event %d was told differently", e.Seq)
		}
		delete(told, e.Seq)
		n++
	}
	for seq := range told {
		t.Errorf("event %d was told, and is gone", seq)
	}
	if n != commits {
		t.Errorf("%d commits in the log, of %d", n, commits)
	}
}
