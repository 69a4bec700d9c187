package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// chromium is the browser of the tests in which people let apps in.
var chromium browser.Chromium

// directory is the URL of the server's did:plc directory.
func (p *process) directory() string {
	for _, line := range p.out {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "PLC"); ok {
			return urlPattern.FindString(rest)
		}
	}
	return ""
}

// app is a site on this machine that people are sent back to.
func app(t *testing.T, h http.HandlerFunc) string {
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "You are back in the app.") }
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/callback"
}

// node is a process of the official client for servers.
type node struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

// startNode starts one. Several that have the same folder are one app.
func startNode(t *testing.T, server, plc, redirect, folder string, site ...string) *node {
	t.Helper()
	modules := testenv.NodeModules(t, "@atproto/api", "@atproto/oauth-client-node")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, "node", append([]string{"testdata/oauth_node.cjs", server, plc, redirect, folder}, site...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
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
	t.Cleanup(func() {
		in.Close()
		cancel()
		cmd.Wait()
	})
	return &node{t, in, bufio.NewScanner(out)}
}

// ask calls a method of testdata/oauth_node.cjs.
func (n *node) ask(out any, method string, argument any) error {
	line, err := json.Marshal([]any{method, argument})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(n.in, "%s\n", line); err != nil {
		return err
	}
	if !n.out.Scan() {
		return fmt.Errorf("%s: the client has ended: %v", method, n.out.Err())
	}
	var answer struct {
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	}
	if err := exactjson.Unmarshal(n.out.Bytes(), &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	if out == nil {
		return nil
	}
	return exactjson.Unmarshal(answer.Value, out)
}

// must is ask, and it must work.
func (n *node) must(out any, method string, argument any) {
	n.t.Helper()
	if err := n.ask(out, method, argument); err != nil {
		n.t.Fatalf("%s: %v", method, err)
	}
}

// TestOfficialOAuthClient: the official client for servers logs in on the pages, writes, and refreshes in
// two processes at once that have no lock. Its session outlasts a crash of the server, and ends when it
// is revoked.
func TestOfficialOAuthClient(t *testing.T) {
	dir, folder := t.TempDir(), t.TempDir()
	plc := directoryInTheNetwork(t) // which does not end with the server
	p := start(t, dir, "PDS_DID_PLC_URL="+plc)
	alice := p.register("alice")
	redirect := app(t, nil)
	one, two := startNode(t, p.url, plc, redirect, folder), startNode(t, p.url, plc, redirect, folder)
	person := chromium.Tab(t, browser.Options{})
	// decide goes through the pages and returns what the app gets.
	decide := func(handle, button string) string {
		t.Helper()
		var address string
		one.must(&address, "authorize", handle)
		person.Goto(address)
		if person.Value("Handle or e-mail address") != handle {
			t.Errorf("the page does not know who it is: %s", person.Text())
		}
		person.Fill("Password", "password of alice")
		person.Submit("Sign in")
		person.Submit(button)
		back, err := url.Parse(person.URL())
		if err != nil || !strings.HasPrefix(person.URL(), redirect+"?") {
			t.Fatalf("back at %s", person.URL())
		}
		return back.RawQuery
	}
	if err := one.ask(nil, "callback", decide("alice.test", "Deny")); err == nil || !strings.Contains(err.Error(), "OAuthCallbackError") {
		t.Errorf("denied: %v", err)
	}
	var got struct {
		DID   string `json:"did"`
		State string `json:"state"`
		Iss   string `json:"iss"`
		Scope string `json:"scope"`
	}
	query := decide("alice.test", "Allow")
	one.must(&got, "callback", query)
	if got.DID != string(alice.DID) || got.State != "of the app" || got.Iss != p.url || !strings.Contains(got.Scope, "repo:com.example.note") {
		t.Errorf("%+v", got)
	}
	if err := one.ask(nil, "callback", query); err == nil {
		t.Error("the answer is taken twice")
	}
	var n, written int
	write := func(c *node, text string) {
		t.Helper()
		c.must(&n, "write", map[string]any{"did": got.DID, "text": text})
		if written++; n != written {
			t.Errorf("%d records, want %d", n, written)
		}
	}
	write(one, "first")
	write(two, "of another process")
	if err := one.ask(nil, "forbidden", got.DID); err == nil || !strings.Contains(err.Error(), "ScopeMissingError") {
		t.Errorf("a record of a kind that was not granted: %v", err)
	}
	both := func() {
		t.Helper()
		var wait sync.WaitGroup
		for _, c := range []*node{one, two} {
			wait.Go(func() {
				var minutes int
				if err := c.ask(&minutes, "refresh", got.DID); err != nil || minutes < 10 {
					t.Errorf("refreshed by two at once: %d minutes, %v", minutes, err)
				}
			})
		}
		wait.Wait()
	}
	for range 5 {
		both()
	}
	write(one, "refreshed")
	write(two, "refreshed")

	p.kill()
	start(t, dir, p.port(), "PDS_DID_PLC_URL="+plc)
	write(one, "after the crash")
	both()
	write(two, "after the crash and a refresh")

	file := filepath.Join(folder, "session-"+strings.NewReplacer(":", "_", ".", "_").Replace(got.DID)+".json")
	session, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	one.must(nil, "revoke", got.DID)
	if err := os.WriteFile(file, session, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := two.ask(nil, "write", map[string]any{"did": got.DID, "text": "revoked"}); err == nil {
		t.Error("the session goes on after it was revoked")
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the other process keeps a session that has ended: %v", err)
	}
}

// TestOfficialConfidentialClient: the same client as a site that authenticates itself by a key. It is let in
// again without a question by an account that has let it in before, and outlasts a restart of the server.
func TestOfficialConfidentialClient(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	const site = "https://app.example.net"
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", r.In.Header.Get("X-Site")
			r.Out.Host = r.Out.URL.Host
			r.Out.Header.Del("X-Site")
		},
		Transport: net.Client().Transport,
	})
	defer proxy.Close()
	n := startNode(t, "https://"+pds.Name, "https://plc.test", site+"/callback", t.TempDir(), site, proxy.URL)
	var documents struct {
		Metadata json.RawMessage `json:"metadata"`
		JWKS     json.RawMessage `json:"jwks"`
	}
	n.must(&documents, "documents", nil)
	mux := http.NewServeMux()
	for path, text := range map[string]json.RawMessage{"/oauth-client-metadata.json": documents.Metadata, "/jwks.json": documents.JWKS} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(text)
		})
	}
	mux.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "You are back in the app.") })
	net.Handle("app.example.net", mux)

	person := chromium.Tab(t, browser.Options{Dial: net.DialFrom("192.0.2.3")})
	var address string
	var got struct {
		DID   string `json:"did"`
		Scope string `json:"scope"`
	}
	back := func() {
		t.Helper()
		person.WaitFor("You are back in the app.")
		u, err := url.Parse(person.URL())
		if err != nil {
			t.Fatal(err)
		}
		n.must(&got, "callback", u.RawQuery)
		if got.DID != string(alice.DID) {
			t.Errorf("%+v", got)
		}
	}
	n.must(&address, "authorize", "alice.pds1.test")
	person.Goto(address)
	person.Fill("Password", alice.Password)
	person.Check("Keep me signed in on this device", true)
	person.Submit("Sign in")
	person.WaitFor("app.example.net")
	person.Submit("Allow")
	back()
	var written, minutes int
	n.must(&written, "write", map[string]any{"did": got.DID, "text": "first"})
	n.must(&minutes, "refresh", got.DID)
	if written != 1 || minutes < 10 {
		t.Errorf("%d records, %d minutes", written, minutes)
	}

	n.must(&address, "authorize", "alice.pds1.test")
	person.Goto(address) // without a question
	back()
	pds.Restart()
	n.must(&minutes, "refresh", got.DID)
	n.must(&written, "write", map[string]any{"did": got.DID, "text": "second"})
	n.must(nil, "revoke", got.DID)
	if apps, err := pds.Server().OAuth.Sessions(t.Context(), alice.DID); err != nil || len(apps) != 0 {
		t.Errorf("after the end: %+v, %v", apps, err)
	}
}

// TestOfficialOAuthBrowserClient: the official client for browsers, in a page on this machine.
func TestOfficialOAuthBrowserClient(t *testing.T) {
	modules := testenv.NodeModules(t, "@atproto/api", "@atproto/oauth-client-browser", "esbuild")
	script := filepath.Join(t.TempDir(), "app.js")
	bundle := exec.CommandContext(t.Context(), filepath.Join(modules, ".bin", "esbuild"), "testdata/oauth_browser.mjs", "--bundle", "--format=esm", "--log-level=error", "--outfile="+script)
	bundle.Env = append(os.Environ(), "NODE_PATH="+modules)
	if out, err := bundle.CombinedOutput(); err != nil {
		t.Fatalf("esbuild: %v\n%s", err, out)
	}
	p := start(t, t.TempDir())
	alice := p.register("alice")
	var redirect string
	redirect = app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/app.js" {
			http.ServeFile(w, r, script)
			return
		}
		config, _ := json.Marshal(map[string]string{"server": p.url, "plc": p.directory(), "redirect": redirect})
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!DOCTYPE html><title>App</title><p id=state></p><label>Handle <input id=handle></label><script>window.config = %s</script><script type=module src="/app.js"></script>`, config)
	})
	tab := chromium.Tab(t, browser.Options{})
	tab.Goto(redirect)
	tab.WaitFor("nobody")
	tab.Fill("Handle", "alice.test")
	tab.Submit("Log in")
	tab.Fill("Password", "password of alice")
	tab.Submit("Sign in")
	tab.Submit("Allow")
	tab.WaitFor("logged in " + string(alice.DID))
	if strings.Contains(tab.URL(), "#") {
		t.Errorf("the code is still in the address: %s", tab.URL())
	}
	tab.Click("Write")
	tab.WaitFor("written")
	tab.Click("Refresh")
	tab.WaitFor("refreshed for 15 minutes")
	tab.Reload()
	tab.WaitFor("restored " + string(alice.DID))
	other := tab.Another() // two tabs of one app
	other.Goto(redirect)
	other.WaitFor("restored " + string(alice.DID))
	other.Click("Refresh")
	other.WaitFor("refreshed for 15 minutes")
	tab.Click("Write")
	tab.WaitFor("written")
	tab.Click("Log out")
	tab.WaitFor("logged out")
	other.Reload()
	other.WaitFor("nobody")
	for _, problem := range append(tab.Problems(), other.Problems()...) {
		if !strings.Contains(problem, "status of 400") || !strings.Contains(problem, p.url+"/oauth/") { // asked for a nonce
			t.Error(problem)
		}
	}
}
