package main_test

import (
	"bytes"
	"context"
	"encoding/json"
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
)

// operator runs commands on a data directory.
type operator struct {
	t   *testing.T
	env []string
	in  string // standard input
}

func newOperator(t *testing.T, dir string, env ...string) *operator {
	own := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PDS_DATA_DIRECTORY=" + dir}, backend(t, dir)...)
	return &operator{t: t, env: append(own, env...)}
}

// run runs a command and returns what it says and its exit code.
func (o *operator) run(args ...string) (stdout, stderr string, code int) {
	o.t.Helper()
	bin := program(o.t)
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Dir = o.env, o.t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Stdin = &out, &errs, strings.NewReader(o.in)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok runs a command that must succeed and reads its JSON.
func (o *operator) ok(v any, args ...string) {
	o.t.Helper()
	stdout, stderr, code := o.run(append(args, "-json")...)
	if code != 0 {
		o.t.Fatalf("pds %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(stdout), v); err != nil {
			o.t.Fatalf("pds %s: %v\n%s", strings.Join(args, " "), err, stdout)
		}
	}
}

// fails runs a command that must fail, with a part of its message.
func (o *operator) fails(code int, part string, args ...string) {
	o.t.Helper()
	stdout, stderr, got := o.run(args...)
	if got != code || !strings.Contains(stdout+stderr, part) {
		o.t.Errorf("pds %s: exit code %d, want %d with %q\n%s%s", strings.Join(args, " "), got, code, part, stdout, stderr)
	}
}

func TestHelp(t *testing.T) {
	o := newOperator(t, t.TempDir())
	stdout, _, code := o.run("help")
	if code != 0 {
		t.Fatal(code)
	}
	for _, name := range []string{"account create", "invite create", "backup", "restore", "check", "rotate-keys", "rotate-plc-key", "request-crawl"} {
		if !strings.Contains(stdout, name) {
			t.Errorf("no %q in the help", name)
		}
		words := strings.Fields(name)
		for _, args := range [][]string{append([]string{"help"}, words...), append(words, "-h")} {
			if out, _, code := o.run(args...); code != 0 || !strings.Contains(out, "Usage: pds "+name) {
				t.Errorf("pds %v: exit code %d, %s", args, code, out)
			}
		}
	}
	o.fails(2, "no command", "launch")
	o.fails(2, "list, info", "account")
	o.fails(0, "account create          Create an account with", "help", "account")
	o.fails(2, "pds account info ACCOUNT", "account", "info")
	o.fails(2, "the e-mail address comes first", "account", "create", "alice.test", "alice@example.com")
	o.fails(2, "not defined", "check", "-nonsense")
	o.fails(2, "PDS_PORT: ", "serve", "-env-file", write(t, "PDS_PORT=x\nPDS_HOSTNAME=a b\n"))
	o.fails(2, "PDS_HOSTNAME: ", "config", "-env-file", write(t, "PDS_PORT=x\nPDS_HOSTNAME=a b\n"))
	o.fails(2, "environment file", "config", "-env-file", "missing.env")
	o.fails(1, "no server's data", "check")
	o.fails(1, "password", "account", "list")
	var v struct{ Version string }
	if o.ok(&v, "version"); v.Version == "" {
		t.Error("no version")
	}
	var c struct {
		URL      string
		Warnings []string
	}
	if o.ok(&c, "config", "-env-file", write(t, "PDS_HOSTNAME=pds.site.test\nPDS_BIND_ADDRESS=127.0.0.1\nPDS_HOSTNAMES=x\nPDS_ADMIN_PASSWORD=topsecret\n")); c.URL != "https://pds.site.test" || len(c.Warnings) != 2 {
		t.Errorf("%+v", c)
	}
	if out, _, _ := o.run("config", "-env-file", write(t, "PDS_ADMIN_PASSWORD=topsecret\n")); strings.Contains(out, "topsecret") {
		t.Error("the configuration is shown with secrets")
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAccountCommands(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, "PDS_INVITE_REQUIRED=true")
	o := newOperator(t, dir, p.port())
	var made struct{ DID, Handle, Password string }
	o.ok(&made, "account", "create", "alice@example.com", "alice.test")
	if made.Handle != "alice.test" || len(made.Password) < 20 {
		t.Fatalf("%+v", made)
	}
	alice, err := p.login(t, "alice.test", made.Password)
	if err != nil {
		t.Fatal(err)
	}
	o.in = "bob's password\n"
	var bob struct{ DID, Password string }
	o.ok(&bob, "account", "create", "-password-stdin", "bob@example.com", "bob.test")
	if _, err := p.login(t, "bob.test", "bob's password"); err != nil || bob.Password != "" {
		t.Errorf("%+v, %v", bob, err)
	}
	o.fails(1, "Handle already taken", "account", "create", "x@example.com", "alice.test")

	type account struct{ DID, Handle, Email, Status string }
	var list []account
	if o.ok(&list, "account", "list"); len(list) != 2 || list[0] != (account{made.DID, "alice.test", "alice@example.com", "active"}) {
		t.Errorf("%+v", list)
	}
	if out, _, _ := o.run("account", "list"); !strings.HasPrefix(out, "HANDLE") || !strings.Contains(out, bob.DID) {
		t.Errorf("%s", out)
	}
	o.ok(nil, "account", "takedown", "@bob.test")
	var info account
	if o.ok(&info, "account", "info", bob.DID); info.Status != "takendown" {
		t.Errorf("%+v", info)
	}
	o.ok(nil, "account", "untakedown", "bob.test")
	if o.ok(&info, "account", "info", "bob.test"); info.Status != "active" {
		t.Errorf("%+v", info)
	}
	var reset struct{ Password string }
	o.ok(&reset, "account", "reset-password", "alice.test")
	if _, err := p.login(t, "alice.test", reset.Password); err != nil {
		t.Error(err)
	}
	if _, err := alice.refresh(p.url); err == nil {
		t.Error("sessions outlive the password")
	}
	o.ok(nil, "account", "update-email", "alice.test", "new@example.com")
	o.ok(nil, "account", "update-handle", "alice.test", "alicia.test")
	if o.ok(&info, "account", "info", "alicia.test"); info.Email != "new@example.com" || info.DID != made.DID {
		t.Errorf("%+v", info)
	}
	o.in = "no\n"
	o.fails(1, "nothing was deleted", "account", "delete", "bob.test")
	o.in = bob.DID + "\n"
	o.ok(nil, "account", "delete", "bob.test")
	o.ok(nil, "account", "delete", "-yes", made.DID)
	if o.ok(&list, "account", "list"); len(list) != 0 {
		t.Errorf("%+v", list)
	}

	var codes []string
	o.ok(&codes, "invite", "create", "-codes", "2", "-uses", "3")
	if len(codes) != 2 {
		t.Fatalf("%v", codes)
	}
	o.ok(nil, "invite", "disable", codes[0])
	var invites []struct {
		Code      string
		Available int
		Disabled  bool
	}
	o.ok(&invites, "invite", "list")
	states := make(map[string]bool)
	for _, inv := range invites {
		if inv.Code == codes[0] || inv.Code == codes[1] {
			states[inv.Code] = inv.Disabled
			if inv.Available != 3 {
				t.Errorf("%+v", inv)
			}
		}
	}
	if !states[codes[0]] || states[codes[1]] || len(states) != 2 {
		t.Errorf("%v", states)
	}
	var health struct{ Version string }
	if o.ok(&health, "health"); health.Version == "" {
		t.Error("no version")
	}
	o.fails(1, "is the server running", "health", "-url", "http://localhost:1")
	for domain, want := range map[string]int{"alicia.test": 404, "localhost": 200, "bob.test": 404, "": 400, "carol.test": 200} {
		if domain == "carol.test" {
			p.anonymous().Procedure(t.Context(), "com.atproto.server.createAccount", map[string]string{"handle": domain, "email": "carol@example.com", "password": "x", "inviteCode": codes[1]}, nil)
		}
		resp, err := http.Get(p.url + "/tls-check?domain=" + domain)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%q: %v, %v", domain, resp, err)
		}
	}
	o.fails(2, "at least 1", "invite", "create", "-uses", "0")
	o.fails(2, "unencrypted", "account", "list", "-url", "http://pds.example.com")
	o.fails(1, "is the server running", "account", "list", "-url", "http://localhost:1")
	newOperator(t, dir, p.port(), "PDS_ADMIN_PASSWORD=wrong").fails(1, "does not take the administrator's password", "invite", "list")
}

// note writes a record.
func (u *user) note(text string) error {
	return u.Procedure(context.Background(), "com.atproto.repo.createRecord", map[string]any{
		"repo": u.DID, "collection": "com.example.note", "record": map[string]any{"text": text},
	}, nil)
}

func TestPortInUse(t *testing.T) {
	p := start(t, t.TempDir())
	newOperator(t, t.TempDir(), p.port()).fails(1, "address already in use", "serve")
}

func TestRequestCrawl(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodGet {
			fmt.Fprintf(w, `{"hostname":%q,"seq":1700000000000000,"status":"active","accountCount":3}`, r.URL.Query().Get("hostname"))
			return
		}
		asked = append(asked, r.URL.Path+" "+string(body))
	}))
	defer relay.Close()
	o := newOperator(t, t.TempDir(), "PDS_HOSTNAME=pds.example.com", "PDS_CRAWLERS="+relay.URL)
	o.ok(nil, "request-crawl")
	o.ok(nil, "request-crawl", relay.URL+"/")
	want := `/xrpc/com.atproto.sync.requestCrawl {"hostname":"pds.example.com"}`
	if len(asked) != 2 || asked[0] != want || asked[1] != want {
		t.Errorf("%q", asked)
	}
	var known []struct {
		Status struct {
			Hostname     string
			AccountCount int
		}
	}
	if o.ok(&known, "request-crawl", "-status"); len(known) != 1 || known[0].Status.Hostname != "pds.example.com" || known[0].Status.AccountCount != 3 {
		t.Errorf("%+v", known)
	}
	o.fails(0, "newest event 1700000000000000 (2023-11-14 22:13:20 UTC)", "request-crawl", "-status")
	o.fails(1, "refused", "request-crawl", "http://localhost:1")
	newOperator(t, t.TempDir(), "PDS_HOSTNAME=pds.example.com").fails(2, "PDS_CRAWLERS", "request-crawl")
	newOperator(t, t.TempDir()).fails(2, "localhost", "request-crawl", relay.URL)
}

func TestMailTest(t *testing.T) {
	sink := filepath.Join(t.TempDir(), "mail")
	o := newOperator(t, t.TempDir(), "PDS_EMAIL_SINK_FILE="+sink)
	o.ok(nil, "mail-test", "me@example.com")
	if text, err := os.ReadFile(sink); err != nil || !strings.Contains(string(text), "me@example.com") {
		t.Errorf("%s, %v", text, err)
	}
	newOperator(t, t.TempDir()).fails(2, "PDS_EMAIL_SMTP_URL", "mail-test", "me@example.com")
}
