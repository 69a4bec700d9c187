package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/stream"
)

var (
	chromium browser.Chromium
	_        = testenv.CheapPasswords()
)

// childVariable makes the test binary the program itself.
const childVariable = "PDSKIT_RELAY_PROGRAM"

const testPassword = "password-for-tests"

// TestMain runs the program itself in a process that a test has started as a child.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	chromium.Main(m)
}

// world is a did:plc directory and PDSes on loopback.
type world struct {
	t         *testing.T
	directory *plctest.Directory
	plc       string // its URL
	resolver  *identity.Resolver
}

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.NotOnJS(t, "it has no sockets")
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	return &world{t: t, directory: plc.Directory, plc: plc.URL, resolver: &identity.Resolver{PLC: plc.Client(), Development: true}}
}

// host is a PDS.
type host struct {
	w    *world
	name string // as relays call it
	url  string
	pds  *pds.Server
}

// host starts a PDS.
func (w *world) host() *host {
	w.t.Helper()
	var h *host
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { h.pds.ServeHTTP(rw, r) }))
	h = &host{w: w, url: strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)}
	h.name = strings.TrimPrefix(h.url, "http://")
	secrets, err := pds.ReadSecrets(filepath.Join(w.t.TempDir(), "secrets.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	h.pds, err = pds.New(pds.Config{URL: h.url, Development: true, Store: memory.New(memory.Config{}), Secrets: secrets, Directory: w.directory.Client()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.pds.Close(ctx); err != nil {
			w.t.Error(err)
		}
		srv.Close()
	})
	return h
}

// account is an account with a session.
type account struct {
	*xrpc.Client
	did  syntax.DID
	made map[string]syntax.CID // records, by path
	rev  syntax.TID
}

func (h *host) account(name string) *account {
	h.w.t.Helper()
	return newAccount(h.w.t, h.url, name+".test")
}

// newAccount makes an account on a server.
func newAccount(t *testing.T, url, handle string) *account {
	t.Helper()
	c := &xrpc.Client{Host: url}
	out, err := api.ServerCreateAccount(t.Context(), c, api.ServerCreateAccountInput{Handle: syntax.Handle(handle), Email: handle + "@example.com", Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	c.Authorize = xrpc.Bearer(out.AccessJWT)
	return &account{Client: c, did: out.DID, made: map[string]syntax.CID{}}
}

// write makes n records.
func (a *account) write(t *testing.T, n int) {
	t.Helper()
	for range n {
		record, err := data.MarshalJSON(map[string]any{"$type": "com.example.note", "n": len(a.made)})
		if err != nil {
			t.Fatal(err)
		}
		out, err := api.RepoCreateRecord(t.Context(), a, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(a.did), Collection: "com.example.note", Record: record})
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(string(out.URI), "at://"+string(a.did)+"/")
		a.made[path], a.rev = out.CID, out.Commit.Rev
	}
}

// program is the relay, as a process of its own.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	data string
	args []string
	errs lines
}

// lines is what a process has written, for when the test fails.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// relay starts the program on a free port, with flags.
func (w *world) relay(args ...string) *program {
	w.t.Helper()
	p := &program{t: w.t, data: filepath.Join(w.t.TempDir(), "data")}
	p.args = append([]string{"-data", p.data, "-development", "-plc", w.plc, "-listen", "127.0.0.1:0"}, args...)
	p.start()
	return p
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = append(os.Environ(), childVariable+"=1", passwordVariable+"="+testPassword)
	p.cmd.Stderr = &p.errs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd := p.cmd
	p.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if p.t.Failed() {
			p.t.Logf("the relay wrote:\n%s", p.errs.String())
		}
	})
	first, err := bufio.NewReader(out).ReadString('\n')
	_, rest, ok := strings.Cut(first, "serves on ")
	if err != nil || !ok {
		p.t.Fatalf("%q, %v: %s", first, err, p.errs.String())
	}
	address, _, _ := strings.Cut(rest, ",")
	p.url = "http://" + address
	go io.Copy(io.Discard, out)
	// From now on it is the same port.
	for i, arg := range p.args {
		if arg == "127.0.0.1:0" {
			p.args[i] = address
		}
	}
}

// kill is kill -9.
func (p *program) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// ask asks for something of the administrator's.
func (p *program) ask(method, path string, in, out any) (status int) {
	p.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := data.MarshalJSON(in)
		if err != nil {
			p.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	status, b := p.request(method, path, body)
	if out != nil {
		if err := data.UnmarshalJSON(b, out); err != nil {
			p.t.Fatalf("%s: %v", b, err)
		}
	}
	if status != http.StatusOK {
		p.t.Logf("%s %s: %s", method, path, b)
	}
	return status
}

// request makes a request of the administrator's.
func (p *program) request(method, path string, body io.Reader) (status int, answer []byte) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.SetBasicAuth("admin", testPassword)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, answer
}

// do does an act, which works.
func (p *program) do(act string, in map[string]any) {
	p.t.Helper()
	if status := p.ask("POST", "/admin/api/"+act, in, nil); status != http.StatusOK {
		p.t.Fatalf("%s: %d", act, status)
	}
}

// follower is a consumer that believes nothing: it keeps the records that verified commits lead to.
type follower struct {
	w      *world
	stream stream.Follower
	cursor int64

	mu      sync.Mutex
	changed sync.Cond
	err     error
	// what it has read
	seqs    map[int64]bool
	commits int
	records map[syntax.DID]map[string]syntax.CID
	revs    map[syntax.DID]syntax.TID
	status  map[syntax.DID]string
}

// follow reads a relay from its oldest event on, until the test ends.
func (w *world) follow(url string) *follower {
	f := &follower{w: w, seqs: map[int64]bool{}, records: map[syntax.DID]map[string]syntax.CID{}, revs: map[syntax.DID]syntax.TID{}, status: map[syntax.DID]string{}}
	f.stream.URL = url + "/xrpc/com.atproto.sync.subscribeRepos"
	f.stream.Cursor = &f.cursor
	f.stream.MaxDelay = 250 * time.Millisecond
	f.stream.Verifier = &commit.Verifier{Key: func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
		if refresh {
			w.resolver.Purge(syntax.AtIdentifier(did))
		}
		doc, err := w.resolver.ResolveDID(ctx, did)
		if err != nil {
			return nil, err
		}
		return doc.SigningKey()
	}}
	f.changed.L = &f.mu
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { f.run(ctx) })
	w.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return f
}

// until waits until something is so. What it looks at does not change while it looks.
func (f *follower) until(what string, is func() bool) {
	f.w.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	late := time.AfterFunc(60*time.Second, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = errors.New("it takes too long")
		f.changed.Broadcast()
	})
	defer late.Stop()
	for !is() {
		if f.err != nil {
			f.w.t.Fatalf("%s: %v", what, f.err)
		}
		f.changed.Wait()
	}
}

// run reads until the context ends, or something is wrong.
func (f *follower) run(ctx context.Context) {
	for m, err := range f.stream.Messages(ctx) {
		f.mu.Lock()
		if err == nil {
			if err = f.take(m); err != nil {
				err = fmt.Errorf("event %d: %w", m.Frame.Seq, err)
			}
		}
		if f.err == nil && ctx.Err() == nil {
			f.err = err
		}
		f.changed.Broadcast()
		f.mu.Unlock()
	}
}

// take takes a message in.
func (f *follower) take(m stream.Message) error {
	switch {
	case m.Err != nil:
		return m.Err
	case f.seqs[m.Frame.Seq]:
		return errors.New("it came twice")
	case m.Resync && m.Commit != nil && m.Commit.Since != "":
		return errors.New("something before it is missing")
	}
	f.seqs[m.Frame.Seq] = true
	switch {
	case m.Sync != nil: // a repair was faster than the commit; the records are not compared then
		f.revs[m.DID] = m.Sync.Rev
	case m.Account != nil:
		f.status[m.DID] = m.Account.Status
	case m.Commit != nil:
		f.commits++
		if f.records[m.DID] == nil {
			f.records[m.DID] = map[string]syntax.CID{}
		}
		f.revs[m.DID] = m.Commit.Rev
		for _, op := range m.Commit.Ops {
			if op.Action == commit.Delete {
				delete(f.records[m.DID], op.Path)
				continue
			}
			if _, again := f.records[m.DID][op.Path]; again && op.Action == commit.Create {
				return fmt.Errorf("%s was created twice", op.Path)
			}
			f.records[m.DID][op.Path] = syntax.CID(op.CID.String())
		}
	}
	return nil
}
