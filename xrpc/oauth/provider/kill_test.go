package provider

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// childVariable has the database of a child process.
const childVariable = "PDSKIT_PROVIDER_CHILD"

// TestServeChild is the server that TestKilled kills: a provider over a SQLite file, in which alice is
// signed in in every browser that has her name.
func TestServeChild(t *testing.T) {
	file := os.Getenv(childVariable)
	if file == "" {
		t.Skip("it is run by TestKilled")
	}
	w := &world{t: t, logins: &testLogins{signedIn: make(map[string][]SignedIn)}, pages: &testPages{}, docs: make(map[string]func(*http.Request) (*http.Response, error))}
	w.clock = time.Now()
	db, err := sqlite.Open(t.Context(), file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w.store = db.Store()
	w.open(w.store, func(c *Config) { c.Now = time.Now })
	if _, err := w.accounts.ByDID(t.Context(), alice); err != nil {
		w.makeAccounts()
	}
	w.public()
	w.signIn(browser, alice)
	mux := http.NewServeMux()
	mux.Handle("/", w.mux)
	mux.HandleFunc("GET /test/sessions", func(rw http.ResponseWriter, r *http.Request) {
		list, err := w.p.Sessions(r.Context(), alice)
		if err != nil {
			t.Error(err)
		}
		json.NewEncoder(rw).Encode(len(list))
	})
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Host, r.URL.Host, r.URL.Scheme = "pds.example.com", "pds.example.com", "https"
		mux.ServeHTTP(rw, r)
	}))
	fmt.Println("serving", srv.URL)
	io.Copy(io.Discard, os.Stdin) // until it is killed, or its parent ends
}

// child is a running child process.
type child struct {
	cmd *exec.Cmd
	url string
}

func startChild(t *testing.T, file string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeChild$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"="+file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(func() { in.Close(); c.kill() })
	lines := bufio.NewScanner(out)
	var all strings.Builder
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			c.url = address
			go io.Copy(io.Discard, out)
			return c
		}
		all.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the child does not serve: %s%s", &all, &stderr)
	return nil
}

func (c *child) kill() {
	c.cmd.Process.Kill() // SIGKILL
	c.cmd.Wait()
}

// noAnswer is the status of a request that was not answered.
const noAnswer = 599

// forward sends requests to the child that runs at the moment.
type forward struct {
	mu  sync.Mutex
	url string
}

func (f *forward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	address := f.url
	f.mu.Unlock()
	out, err := http.NewRequest(r.Method, address+r.URL.RequestURI(), r.Body)
	if err != nil {
		panic(err)
	}
	out.Header = r.Header
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(out)
	if err != nil {
		w.WriteHeader(noAnswer)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.WriteHeader(noAnswer)
		return
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	w.Write(text)
}

// killed is a client of a server that is killed.
type killed struct {
	*app
	sessions []tokens
	// code was sent with verifier, and asked is a session whose refresh token was: neither was answered.
	code, verifier string
	asked          int // -1: none
}

var errKilled = errors.New("the server was killed")

// try fails unless an answer has a status: with errKilled if there was none.
func try(what string, out reply, status int) error {
	switch out.status {
	case status:
		return nil
	case noAnswer:
		return errKilled
	}
	return fmt.Errorf("%s: %d %s", what, out.status, out.text)
}

func (k *killed) now() { // the clock of both processes is the machine's
	k.world.mu.Lock()
	k.clock = time.Now()
	k.world.mu.Unlock()
}

// login begins a session.
func (k *killed) login() error {
	k.now()
	out := k.par(nil)
	if err := try("par", out, 201); err != nil {
		return err
	}
	path := pathAuthorize + "?" + url.Values{"client_id": {k.id}, "request_uri": {out.str("request_uri")}}.Encode()
	page := k.browse(browser, path)
	if err := try("page", page, 200); err != nil {
		return err
	}
	form := url.Values{"request": {page.header.Get("X-Request")}, "form": {page.header.Get("X-Form")}, "did": {string(alice)}, "decision": {"allow"},
		"scope": {auth.Atproto, "repo:com.example.note"}}
	answer := k.submit(browser, form)
	if err := try("consent", answer, 303); err != nil {
		return err
	}
	to, err := url.Parse(answer.header.Get("Location"))
	if err != nil {
		return err
	}
	k.code, k.verifier = to.Query().Get("code"), k.app.verifier
	return k.finish(false)
}

// finish exchanges a code. If that was tried before, it may have been exchanged: then there is no
// session by it, since a code that comes twice ends it.
func (k *killed) finish(again bool) error {
	out := k.send(pathToken, k.tokenParams(k.code, map[string]string{"code_verifier": k.verifier}))
	if again && out.is(400, codeInvalidGrant) {
		k.code = ""
		return nil
	}
	if err := try("exchange", out, 200); err != nil {
		return err
	}
	k.code = ""
	k.sessions = append(k.sessions, tokens{out.str("access_token"), out.str("refresh_token")})
	return nil
}

// renew renews a session.
func (k *killed) renew(i int) error {
	k.asked = i
	out := k.refresh(k.sessions[i].refresh)
	if err := try("refresh", out, 200); err != nil {
		return err
	}
	k.asked = -1
	k.sessions[i] = tokens{out.str("access_token"), out.str("refresh_token")}
	return nil
}

// work begins and renews sessions until the server is killed.
func (k *killed) work(done *atomic.Int64) error {
	for {
		k.now()
		var err error
		if n := len(k.sessions); n == 0 || n < 20 && rand.IntN(3) == 0 {
			err = k.login()
		} else {
			err = k.renew(rand.IntN(n))
		}
		if err != nil {
			return err
		}
		done.Add(1)
	}
}

// recover does again what was not answered, and then shows all tokens.
func (k *killed) recover() error {
	k.now()
	if k.code != "" {
		if err := k.finish(true); err != nil {
			return err
		}
	}
	if k.asked >= 0 {
		if err := k.renew(k.asked); err != nil {
			return err
		}
	}
	for _, x := range k.sessions {
		if err := try("a token from before", k.call(x.access), 200); err != nil {
			return err
		}
	}
	return nil
}

// The process is killed at random moments while apps exchange codes and refresh tokens: all sessions
// that clients know go on, what was not answered can be done again, and there are no others.
//
//	PDSKIT_KILLS=100 go test -run TestKilled -v ./xrpc/oauth/provider
func TestKilled(t *testing.T) {
	testenv.NotOnJS(t, "programs cannot be started")
	rounds := 10
	if text := os.Getenv("PDSKIT_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	file := filepath.Join(t.TempDir(), "pds.sqlite")
	front := &forward{}
	var clients []*killed
	for range 3 {
		w := &world{t: t, mux: front, clock: time.Now()}
		clients = append(clients, &killed{asked: -1, app: &app{world: w, id: clientID, redirect: redirect, scope: "atproto repo:com.example.note", key: newKey(t)}})
	}
	begin := time.Now()
	var done atomic.Int64
	lost := 0
	round := 0
	for ; round < rounds; round++ {
		if round >= 3 && rounds <= 10 && time.Since(begin) > 15*time.Second {
			break // the machine is slow
		}
		c := startChild(t, file)
		front.mu.Lock()
		front.url = c.url
		front.mu.Unlock()
		for i, k := range clients {
			if k.code != "" || k.asked >= 0 {
				lost++
			}
			if err := k.recover(); err != nil {
				t.Fatalf("round %d, client %d: %v", round, i, err)
			}
		}
		known := 0
		for _, k := range clients {
			known += len(k.sessions)
		}
		if out := clients[0].get("/test/sessions"); strings.TrimSpace(out.text) != fmt.Sprint(known) {
			t.Fatalf("round %d: the server has %s sessions, the clients %d", round, out.text, known)
		}
		var all sync.WaitGroup
		errs := make([]error, len(clients))
		for i, k := range clients {
			all.Go(func() { errs[i] = k.work(&done) })
		}
		most := done.Load() + 1 + rand.Int64N(30)
		for deadline := time.Now().Add(5 * time.Second); done.Load() < most && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
		c.kill()
		all.Wait()
		if i := slices.IndexFunc(errs, func(err error) bool { return !errors.Is(err, errKilled) }); i >= 0 {
			t.Fatalf("round %d, client %d: %v", round, i, errs[i])
		}
	}
	db, err := sqlite.Open(t.Context(), file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tokens := 0
	for pair, err := range allKeys(t, db.Store()) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(pair.Key, proofPrefix) {
			tokens++
		}
	}
	t.Logf("%d rounds, %d exchanges and refreshes, %d of them not answered, %d proofs remembered", round, done.Load(), lost, tokens)
	if int64(tokens) < done.Load() {
		t.Errorf("%d proofs are remembered of %d", tokens, done.Load())
	}
}

// allKeys are those of the host's namespace.
func allKeys(t *testing.T, s storage.Store) func(func(storage.KVPair, error) bool) {
	return func(yield func(storage.KVPair, error) bool) {
		err := s.KV.Read(t.Context(), func(r storage.KVReader) error {
			for pair, err := range r.Keys(t.Context(), storage.Prefix("")) {
				if !yield(pair, err) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(storage.KVPair{}, err)
		}
	}
}
