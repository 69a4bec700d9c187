package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

var chromium browser.Chromium

// TestMain runs the app itself in a process that a test has started as one.
func TestMain(m *testing.M) {
	if os.Getenv("STATUSPHERE_CHILD") != "" {
		main()
		return
	}
	chromium.Main(m)
}

// process is the app in a process of its own.
type process struct {
	cmd    *exec.Cmd
	url    string
	pds    string
	logins map[string]string // passwords by handle
	errs   *bytes.Buffer
}

// freePort returns an address that nobody uses now.
func freePort(t *testing.T, host string) string {
	t.Helper()
	port, err := testenv.FreePort(host)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", host, port)
}

var loginLine = regexp.MustCompile(`handle (\S+)   password (\S+)`)

// startProcess starts the app, and waits until it serves.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), logins: make(map[string]string), errs: new(bytes.Buffer)}
	p.cmd.Env = append(os.Environ(), "STATUSPHERE_CHILD=1")
	p.cmd.Stderr = p.errs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	s := bufio.NewScanner(out)
	for s.Scan() {
		text := s.Text()
		if url, ok := strings.CutPrefix(text, "Statusphere: "); ok {
			p.url = url
		} else if f := strings.Fields(text); len(f) > 1 && f[0] == "PDS" {
			p.pds = f[1]
		} else if m := loginLine.FindStringSubmatch(text); m != nil {
			p.logins[m[1]] = m[2]
		} else if text == "" && (p.pds == "" || len(p.logins) > 0) {
			break
		}
	}
	go io.Copy(io.Discard, out)
	eventually(t, func() error {
		res, err := http.Get(p.url)
		if err == nil {
			res.Body.Close()
		}
		return err
	})
	return p
}

// kill ends the process as a power failure would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// TestKilledProcess: the process is killed while others write. When it is started again, the list is
// that of the repositories.
func TestKilledProcess(t *testing.T) {
	dir := t.TempDir()
	args := []string{"-data", dir, "-listen", freePort(t, "127.0.0.1"), "-pds", freePort(t, "localhost")}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	var written atomic.Int64
	p := startProcess(t, args...)
	for handle, password := range p.logins {
		running.Go(func() { write(ctx, p.pds, handle, password, &written) })
	}
	for range 3 {
		before := written.Load()
		eventually(t, func() error {
			if n := written.Load() - before; n < 20 {
				return fmt.Errorf("%d writes", n)
			}
			return nil
		})
		p.kill()
		p = startProcess(t, args...)
	}
	stop()
	running.Wait()

	want := make(map[string]string)
	for handle, password := range p.logins {
		maps.Copy(want, repository(t, p.pds, handle, password))
	}
	if len(want) < 20 {
		t.Fatalf("the repositories have %d statuses", len(want))
	}
	x, err := index.Open(t.Context(), filepath.Join(dir, database))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	eventually(t, func() error {
		got := rows(t, x)
		if !maps.Equal(got, want) {
			return fmt.Errorf("the index has %d statuses, the repositories %d", len(got), len(want))
		}
		return nil
	})
	var current int
	if err := x.SQL.QueryRowContext(t.Context(), "SELECT count(*) FROM status WHERE current").Scan(&current); err != nil || current != 2 {
		t.Errorf("%d statuses are current: %v", current, err)
	}

	// It ends in order when it is asked to.
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ends with %v: %s", err, p.errs)
	}
}

// session opens a session at a PDS, as soon as it answers.
func session(ctx context.Context, pds, handle, password string) (*xrpc.Client, syntax.DID, error) {
	c := &xrpc.Client{Host: pds, Retries: -1}
	out, err := api.ServerCreateSession(ctx, c, api.ServerCreateSessionInput{Identifier: handle, Password: password})
	c.Authorize = xrpc.Bearer(out.AccessJWT)
	return c, out.DID, err
}

// write writes and deletes statuses until the context ends, as another app does.
func write(ctx context.Context, pds, handle, password string, written *atomic.Int64) {
	var c *xrpc.Client
	var did syntax.DID
	var last syntax.RecordKey
	for i := 0; ctx.Err() == nil; i++ {
		var err error
		if c == nil {
			if c, did, err = session(ctx, pds, handle, password); err != nil {
				c = nil
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		if i%3 == 2 && last != "" {
			_, err = api.RepoDeleteRecord(ctx, c, api.RepoDeleteRecordInput{Repo: syntax.AtIdentifier(did), Collection: status.Collection, RKey: last})
		} else {
			var record []byte
			record, err = data.MarshalJSON(map[string]any{"status": status.Options()[i%20].Text, "createdAt": syntax.NewDatetime(time.Now())})
			if err == nil {
				var out api.RepoCreateRecordOutput
				out, err = api.RepoCreateRecord(ctx, c, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: status.Collection, Record: record})
				if err == nil {
					last = syntax.RecordKey(out.URI[strings.LastIndex(string(out.URI), "/")+1:])
				}
			}
		}
		if err != nil {
			c = nil // the process was killed
			continue
		}
		written.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
}

// repository returns the statuses of an account as its PDS lists them.
func repository(t *testing.T, pds, handle, password string) map[string]string {
	t.Helper()
	c, did, err := session(t.Context(), pds, handle, password)
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]string)
	for cursor := ""; ; {
		out, err := api.RepoListRecords(t.Context(), c, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(did), Collection: status.Collection, Limit: 100, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Records {
			var record struct {
				Status string `json:"status"`
			}
			if err := r.Value.Into(&record); err != nil {
				t.Fatal(err)
			}
			list[string(r.URI)] = record.Status
		}
		if cursor = out.Cursor; cursor == "" {
			return list
		}
	}
}
