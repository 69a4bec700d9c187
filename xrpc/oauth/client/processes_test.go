package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// Variables of a process that TestMatrix175TwoProcesses starts.
const (
	processStore   = "PDSKIT_CLIENTTEST_STORE"
	processDir     = "PDSKIT_CLIENTTEST_DIR"
	processSession = "PDSKIT_CLIENTTEST_SESSION"
	processServer  = "PDSKIT_CLIENTTEST_SERVER"
)

// processClient is the client of one process, over a store that others have too.
func processClient(ctx context.Context, kind, dir string, onEnd func(client.Info, client.EndReason)) (*client.Client, func(), error) {
	cfg := client.Config{Metadata: client.Loopback("atproto", "/callback"), Discovery: &client.Discovery{Development: true}, OnEnd: onEnd}
	stop := func() {}
	switch kind {
	case "files":
		cfg.Sessions = &client.Files{Dir: dir}
	case "sqlite":
		db, err := sqlite.Open(ctx, filepath.Join(dir, "db"), sqlite.Config{})
		if err != nil {
			return nil, nil, err
		}
		cfg.Sessions, stop = &client.Stored{KV: db.Store().KV}, func() { db.Close() }
	}
	c, err := client.New(cfg)
	return c, stop, err
}

// TestProcess is a process: it calls the server without a pause until its input ends.
func TestProcess(t *testing.T) {
	kind := os.Getenv(processStore)
	if kind == "" {
		t.Skip("started by TestMatrix175TwoProcesses")
	}
	c, stop, err := processClient(t.Context(), kind, os.Getenv(processDir), func(i client.Info, why client.EndReason) { fmt.Println("FAIL it ended:", why) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	done := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(done)
	}()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s, err := c.Resume(t.Context(), client.SessionID(os.Getenv(processSession)))
			for n := 0; ; n++ {
				select {
				case <-done:
					fmt.Println("calls", n)
					return
				default:
				}
				if err == nil {
					var res *http.Response
					if res, err = s.HTTPClient().Get(os.Getenv(processServer) + "/xrpc/x"); err == nil {
						res.Body.Close()
						// On a slow machine a new token has expired before it arrives.
						if res.StatusCode != 200 && res.StatusCode != 401 {
							err = errors.New(res.Status)
						}
					}
				}
				if err != nil {
					fmt.Println("FAIL", err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// Two processes use one session whose token expires all the time. Each renewal is one request, the
// server never sees a refresh token twice, and nobody is logged out. The test takes three seconds;
// with PDSKIT_LONG a minute.
func TestMatrix175TwoProcesses(t *testing.T) {
	for _, kind := range []string{"files", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			if testing.Short() && kind == "sqlite" {
				t.Skip("one store will do with -short")
			}
			t.Parallel()
			if kind == "files" && !filelock.Works {
				t.Skip("no locks here")
			}
			s, stopServer := localServer()
			defer stopServer()
			s.do(func() { s.life = 400 * time.Millisecond })

			dir := t.TempDir()
			c, stop, err := processClient(t.Context(), kind, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			to, err := c.Start(t.Context(), client.Login{Account: s.did})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(to.String(), s.origin+"/authorize?") {
				t.Fatal(to)
			}
			back := map[string][]string{"state": {s.lastForm("/par").Get("state")}, "iss": {s.origin}, "code": {"x"}}
			first, _, err := c.Finish(t.Context(), back, "")
			if err != nil {
				t.Fatal(err)
			}
			stop()
			before := s.count("/token")

			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var ends []func()
			for range 2 {
				cmd := exec.Command(exe, "-test.run=^TestProcess$", "-test.v")
				cmd.Env = append(os.Environ(), processStore+"="+kind, processDir+"="+dir, processSession+"="+string(first.ID()), processServer+"="+s.origin)
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				ends = append(ends, func() { in.Close() })
				wg.Go(func() {
					out, err := cmd.CombinedOutput()
					if err != nil || strings.Contains(string(out), "FAIL") || strings.Count(string(out), "calls") != 3 {
						t.Errorf("%v\n%s", err, out)
					}
				})
			}
			life := 3 * time.Second
			if os.Getenv("PDSKIT_LONG") != "" {
				life = time.Minute
			}
			for begun := time.Now(); time.Since(begun) < life || s.count("/token")-before < 5 && time.Since(begun) < 2*time.Minute; {
				time.Sleep(50 * time.Millisecond)
			}
			for _, end := range ends {
				end()
			}
			wg.Wait()
			renewals, calls := s.count("/token")-before, s.count("/xrpc/x")
			t.Logf("%d renewals, %d calls", renewals, calls)
			if s.reused != 0 || s.ended || s.tokens != renewals+1 {
				t.Errorf("%d requests, %d renewals, %d tokens used twice", renewals, s.tokens-1, s.reused)
			}
			if renewals < 5 {
				t.Errorf("only %d renewals", renewals)
			}
		})
	}
}
