//go:build unix

package main_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// health asks a node how it is.
func (p *process) health() (status int, body string) {
	resp, err := http.Get(p.url + "/xrpc/_health")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// Two servers share a database. What is written at one is in the stream of the other at once, under the
// same number; so is a session. One is told to end: its health says so, it goes on for a while, its
// subscribers are told. The other one is told twice, and ends at once.
func TestTwoNodes(t *testing.T) {
	db := pgtest.Start(t)
	root := t.TempDir()
	log, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	env := []string{
		"PDS_DATABASE_URL=" + db.URL(), "PDS_MASTER_KEY=" + strings.Repeat("5a", 32), "PDS_JWT_SECRET=" + strings.Repeat("b7", 32),
		"PDS_ADMIN_PASSWORD=of the administrator", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("3c", 32),
	}
	one := startWith(t, filepath.Join(root, "one"), log, append(env, "PDS_NODE_ID=one", "PDS_SHUTDOWN_DELAY_MS=2000")...)
	env = append(env, "PDS_DID_PLC_URL="+one.directory())
	two := startWith(t, filepath.Join(root, "two"), log, append(env, "PDS_NODE_ID=two", "PDS_SHUTDOWN_DELAY_MS=600000")...)
	alice := one.register("alice")

	follow := func(p *process, ended chan<- error) <-chan stream.Frame {
		frames, zero := make(chan stream.Frame, 100), int64(0)
		c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &zero, Retry: func(err error) error { return err }}
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		go func() {
			defer close(frames)
			for f, err := range c.Frames(ctx) {
				if err != nil {
					ended <- err
					return
				}
				f.Payload = append([]byte(nil), f.Payload...)
				frames <- f
			}
		}()
		return frames
	}
	endOne, endTwo := make(chan error, 1), make(chan error, 1)
	a, b := follow(one, endOne), follow(two, endTwo)
	same := func(n int) {
		t.Helper()
		for range n {
			x, y := <-a, <-b
			if x.Seq != y.Seq || x.Kind != y.Kind || string(x.Payload) != string(y.Payload) || x.Seq == 0 {
				t.Fatalf("event %d %s at one node, %d %s at the other", x.Seq, x.Kind, y.Seq, y.Kind)
			}
		}
	}
	same(4) // identity, account, commit, sync
	for i, p := range []*process{two, one, two} {
		u := *alice
		u.Client = &xrpc.Client{Host: p.url, Authorize: xrpc.Bearer(alice.AccessJWT)}
		begin := time.Now()
		if err := u.note("from one node to the other"); err != nil {
			t.Fatal(err)
		}
		same(1)
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("note %d is at both nodes after %s", i, took)
		}
	}

	var list []struct{ ID string }
	o := newOperator(t, filepath.Join(root, "one"), env...)
	testenv.Until(t, "both nodes in the list", func() bool {
		list = nil
		o.ok(&list, "nodes")
		return len(list) == 2
	})
	if status, body := two.health(); status != 200 || !strings.Contains(body, `"node":"two"`) {
		t.Errorf("%d %s", status, body)
	}

	if err := one.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, "a health of 503", func() bool { status, _ := one.health(); return status == 503 })
	if err := alice.note("to a node that drains"); err != nil {
		t.Error(err)
	}
	same(1)
	if err := <-endOne; !strings.Contains(err.Error(), "StatusGoingAway") {
		t.Errorf("how a subscription ends: %v", err)
	}
	if err := <-one.done; err != nil {
		t.Errorf("how the server ends: %v", err)
	}
	one.done <- nil
	u := *alice
	u.Client = &xrpc.Client{Host: two.url, Authorize: xrpc.Bearer(alice.AccessJWT)}
	if err := u.note("to the one that is left"); err != nil {
		t.Error(err)
	}

	if err := two.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testenv.Until(t, "a health of 503", func() bool { status, _ := two.health(); return status == 503 })
	if err := two.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = <-two.done
	two.done <- err
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("how a server ends that is told twice: %v", err)
	}
}
