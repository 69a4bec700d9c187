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
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
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

type checkReport struct {
	Accounts, Records, Blobs, Events, MissingBlobs, Found int
}

func TestBackupRestoreCheckRotate(t *testing.T) {
	root := t.TempDir()
	dir, backup, archive := filepath.Join(root, "data"), filepath.Join(root, "backup"), filepath.Join(root, "pds.tar")
	p := start(t, dir, "PDS_JWT_SECRET=from the environment")
	o := newOperator(t, dir, p.port(), "PDS_JWT_SECRET=from the environment")
	alice := p.register("alice")
	for i := range 3 {
		if err := alice.note(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var blob struct{ Blob json.RawMessage }
	if err := alice.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader("a blob"), &blob); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}, nil)

	// All of these while the server runs.
	var r checkReport
	if o.ok(&r, "check"); r.Accounts != 1 || r.Records != 4 || r.Blobs != 1 || r.Found != 0 {
		t.Errorf("%+v", r)
	}
	if o.ok(&r, "check", "alice.test", "-fast"); r.Accounts != 1 || r.Records != 4 {
		t.Errorf("%+v", r)
	}
	o.fails(1, "in use", "rotate-keys")
	var m struct{ Blobs int }
	if o.ok(&m, "backup", backup); m.Blobs != 1 {
		t.Errorf("%+v", m)
	}
	if err := alice.note("after the first backup"); err != nil {
		t.Fatal(err)
	}
	o.ok(&m, "backup", backup)
	o.ok(&m, "backup", "-tar", archive)
	stdout, _, code := o.run("backup", "-tar", "-")
	if code != 0 {
		t.Fatal(code)
	}
	if err := alice.note("not in any backup"); err != nil {
		t.Fatal(err)
	}
	o.fails(1, "neither empty nor a backup", "backup", root)
	p.interrupt()

	// A stopped server's keys are rotated; it goes on.
	before, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sealed struct{ Sealed int }
	if o.ok(&sealed, "rotate-keys"); sealed.Sealed != 1 {
		t.Errorf("%+v", sealed)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if bytes.Equal(before, after) || bytes.Contains(after, []byte("oldMasterKeys")) {
		t.Errorf("secrets after the rotation: %s", after)
	}
	p = start(t, dir, p.port(), "PDS_JWT_SECRET=from the environment")
	if err := alice.note("after the rotation"); err != nil {
		t.Error(err)
	}
	p.interrupt()

	// Each of the backups, restored elsewhere, is the server as it was then, without the
	// environment's secret, which it brings along.
	for name, from := range map[string]string{"directory": backup, "tar": archive, "standard input": "-"} {
		restored := filepath.Join(root, "restored "+name)
		o := newOperator(t, restored, p.port())
		o.in = stdout
		var out struct{ Check checkReport }
		if o.ok(&out, "restore", from); out.Check.Records != 5 || out.Check.Blobs != 1 || out.Check.Found != 0 {
			t.Errorf("%s: %+v", name, out)
		}
		o.fails(1, "not empty", "restore", from)
		p := start(t, restored, p.port())
		if err := alice.note("after the restore"); err != nil { // with the session of before
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.login(t, "alice.test", "password of alice"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var list struct{ Records []any }
		if err := p.anonymous().Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {"alice.test"}, "collection": {"com.example.note"}}, &list); err != nil || len(list.Records) != 6 {
			t.Errorf("%s: %d records, %v", name, len(list.Records), err)
		}
		p.interrupt()
		if o.ok(&r, "check"); r.Records != 6 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	alice := p.register("alice")
	var blob struct{ Blob json.RawMessage }
	if err := alice.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader("a blob"), &blob); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}, nil)
	p.interrupt()
	files, err := filepath.Glob(filepath.Join(dir, "pds.sqlite.blobs/blobs/*/*/*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		text[0] ^= 1
		err = os.WriteFile(files[0], text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := newOperator(t, dir)
	o.fails(3, "its bytes are others", "check")
	o.fails(0, "All is well", "check", "-fast")
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	o.fails(3, "blobs that are not there: 1", "check")
	o.fails(3, "is lost", "check", "-fast")
}

// aBlob makes a record with a blob of a text.
func (u *user) aBlob(t *testing.T, text string) {
	t.Helper()
	var blob struct{ Blob json.RawMessage }
	if err := u.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader(text), &blob); err != nil {
		t.Fatal(err)
	}
	u.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": u.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}, nil)
}

// blobFiles are the files of a folder's promoted blobs.
func blobFiles(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "pds.sqlite.blobs/blobs/*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A server that has lost blobs is told so by every command, keeps them in its backups, and gets
// them back.
func TestLostBlobs(t *testing.T) {
	root := t.TempDir()
	dir, backup, empty := filepath.Join(root, "data"), filepath.Join(root, "backup"), filepath.Join(root, "empty")
	p := start(t, dir)
	alice := p.register("alice")
	for i := range 3 {
		alice.aBlob(t, fmt.Sprint("blob ", i))
	}
	o := newOperator(t, dir, "PDS_PORT=0")
	o.ok(nil, "backup", backup)
	lost := blobFiles(t, dir)[0]
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"backup", backup}, {"backup", "-keep", "7d,4w", backup}, {"backup", "-fast", backup}, {"backup", "-json", backup}} {
		o.fails(3, "has lost 1 blobs", args...)
		if n := len(blobFiles(t, backup)); n != 3 {
			t.Fatalf("%d blobs are in the backup", n)
		}
	}
	o.fails(3, "kept in the backup", "backup", backup)
	o.fails(3, "not in the backup either", "backup", filepath.Join(root, "another backup"))
	o.fails(3, filepath.Base(lost)+" is lost", "check")
	if out, _, _ := o.run("check"); strings.Contains(out, "All is well") {
		t.Error(out)
	}
	var back struct{ PutBack, Found, Blobs int }
	if o.ok(&back, "check", "-blobs-from", backup); back.PutBack != 1 || back.Found != 0 || back.Blobs != 3 {
		t.Errorf("%+v", back)
	}
	o.fails(0, "All is well", "check")
	o.ok(nil, "backup", backup)
	o.fails(2, "not the directory of a backup", "check", "-blobs-from", root)
	p.interrupt()

	// The disk of the blobs is not there.
	elsewhere := newOperator(t, dir, "PDS_PORT=0", "PDS_BLOBSTORE_DISK_LOCATION="+empty)
	elsewhere.fails(1, "is the disk mounted", "serve")
	elsewhere.fails(3, "is the disk mounted", "check")
	elsewhere.fails(3, "has lost 3 blobs", "backup", backup)
	if n := len(blobFiles(t, backup)); n != 3 {
		t.Fatalf("%d blobs are in the backup", n)
	}
	o.fails(0, "All is well", "check")

	// A backup that has lost its blobs is not restored, unless that is what is wanted.
	if err := os.RemoveAll(filepath.Join(backup, "pds.sqlite.blobs")); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(root, "restored")
	r := newOperator(t, restored, "PDS_PORT=0")
	r.fails(1, "lost a blob", "restore", backup)
	if _, err := os.Stat(restored); err == nil {
		t.Error("something was restored")
	}
	r.fails(0, "3 blobs that records refer to are not in it", "restore", "-accept-missing-blobs", backup)
	r.fails(0, "Nothing is damaged", "check")
	r.ok(nil, "backup", filepath.Join(root, "backup of the restored"))
	p = start(t, restored, p.port())
	if err := alice.note("after the restore"); err != nil {
		t.Error(err)
	}
	p.interrupt()
	// What was accepted is not lost when it comes back.
	if err := errors.Join(os.RemoveAll(filepath.Join(restored, "pds.sqlite.blobs")), os.CopyFS(filepath.Join(restored, "pds.sqlite.blobs"), os.DirFS(filepath.Join(dir, "pds.sqlite.blobs")))); err != nil {
		t.Fatal(err)
	}
	r.fails(0, "All is well", "check")
}

// A backup that is killed at any moment leaves the generations that there are, and the next one is
// made.
func TestKilledBackups(t *testing.T) {
	root := t.TempDir()
	dir, backup := filepath.Join(root, "data"), filepath.Join(root, "backup")
	p := start(t, dir)
	alice := p.register("alice")
	for i := range 20 {
		alice.aBlob(t, strings.Repeat(fmt.Sprint("blob ", i), 1000))
	}
	o := newOperator(t, dir)
	first := time.Now()
	o.ok(nil, "backup", backup)
	took := time.Since(first)
	bin := program(t)
	kills := 0
	for round := range 12 {
		alice.aBlob(t, fmt.Sprint("a later blob ", round))
		cmd := exec.Command(bin, "backup", "-keep", "100", backup)
		cmd.Env, cmd.Dir = o.env, root
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(took*time.Duration(round)/10, func() { cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			kills++
		}
		kill.Stop()
		generations, err := filepath.Glob(filepath.Join(backup, "generations", "2*"))
		if err != nil || len(generations) == 0 {
			t.Fatal(generations, err)
		}
		for i, g := range generations {
			restored := filepath.Join(root, fmt.Sprintf("restored-%d-%d", round, i))
			newOperator(t, restored).fails(0, "All is well", "restore", "-no-resync", g)
			if err := os.RemoveAll(restored); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kills == 0 {
		t.Error("no backup was killed")
	}
	var m struct{ Blobs, LostBlobs int }
	if o.ok(&m, "backup", backup); m.Blobs != 32 || m.LostBlobs != 0 || len(blobFiles(t, backup)) != 32 {
		t.Errorf("%+v, %d files", m, len(blobFiles(t, backup)))
	}
	if left, _ := filepath.Glob(filepath.Join(backup, "generations", "*")); len(left) != 1 {
		t.Errorf("%q", left)
	}
	p.interrupt()
}

// Without the keys of its accounts, a server does not start and make others.
func TestMissingKeysAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.register("alice")
	p.interrupt()
	if err := os.Remove(filepath.Join(dir, "secrets.json")); err != nil {
		t.Fatal(err)
	}
	o := newOperator(t, dir, "PDS_PORT=0")
	o.fails(1, "keys are missing", "serve")
	o.fails(1, "keys are missing", "check")
	if _, err := os.Stat(filepath.Join(dir, "secrets.json")); err == nil {
		t.Error("other keys were made")
	}
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

func TestMetricsAndLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := startLogging(t, t.TempDir(), f, "PDS_METRICS_ADDRESS=localhost:0", "PDS_LOG_LEVEL=debug", "PDS_LOG_FORMAT=json", "PDS_ADMIN_PASSWORD=hunter2")
	alice := p.register("alice")
	if err := alice.note("x"); err != nil {
		t.Fatal(err)
	}
	p.login(t, "alice.test", "wrong password")
	p.login(t, "mistyped-secret", "wrong password")
	for range 3 {
		p.anonymous().Query(t.Context(), "com.example.invented"+fmt.Sprint(probes), nil, nil)
		probes++
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`"msg":"metrics","address":"([^"]+)"`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no address of the metrics in the log:\n%s", text)
	}
	resp, err := http.Get("http://" + string(found[1]) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`pds_requests_total{method="com.atproto.repo.createRecord",status="200"} 1`,
		`pds_requests_total{method="com.atproto.server.createSession",status="401"} 2`,
		`pds_requests_total{method="other",status="400"} 3`,
		`pds_request_duration_seconds_count{method="com.atproto.server.createAccount"} 1`,
		`pds_accounts 1`, `pds_subscribers 0`, `pds_tree_cache_trees 1`,
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	for _, name := range []string{"pds_event_newest_sequence ", "pds_database_bytes ", "go_goroutines "} {
		if !strings.Contains(string(body), "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	if resp, err := http.Get(p.url + "/metrics"); err != nil || resp.StatusCode != 404 {
		t.Errorf("metrics are public: %v, %v", resp, err)
	}
	// The log: a line for each request, with its ID, and no secrets.
	seen := make(map[string]bool)
	for l := range strings.Lines(string(text)) {
		var e struct {
			Msg, ID, Method, From, DID, Error, Account string
			Status                                     int
			MS                                         *float64
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v in %s", err, l)
		}
		if e.Msg == "request" {
			seen[fmt.Sprint(e.Method, " ", e.Status, " ", e.Error, e.DID, e.Account)] = true
			if e.ID == "" || e.MS == nil || e.From != "127.0.0.1" && e.From != "::1" {
				t.Errorf("incomplete: %s", l)
			}
		}
	}
	for _, want := range []string{"com.atproto.repo.createRecord 200 " + string(alice.DID), "com.atproto.server.createSession 401 AuthenticationRequired" + string(alice.DID),
		"com.atproto.server.createSession 401 AuthenticationRequired", "com.atproto.server.createAccount 200 " + string(alice.DID)} {
		if !seen[want] {
			t.Errorf("no %q in %v", want, seen)
		}
	}
	for _, secret := range []string{"password of alice", "wrong password", "mistyped-secret", alice.AccessJWT, "hunter2", "Bearer"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%.30q is in the log", secret)
		}
	}
}

func TestRateLimits(t *testing.T) {
	p := start(t, t.TempDir(), "PDS_RATE_LIMITS_ENABLED=true", "PDS_RATE_LIMIT_BYPASS_KEY=sesame")
	alice := p.register("alice")
	call := func(from, key string) *http.Response {
		t.Helper()
		body := strings.NewReader(`{"identifier":"nobody.test","password":"x"}`)
		r, err := http.NewRequest("POST", p.url+"/xrpc/com.atproto.server.createSession", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Forwarded-For", from) // this machine is a trusted proxy
		if key != "" {
			r.Header.Set("X-Ratelimit-Bypass", key)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	for i := range 30 {
		resp := call("192.0.2.1", "")
		if resp.StatusCode != 401 || resp.Header.Get("RateLimit-Remaining") != fmt.Sprint(29-i) {
			t.Fatalf("attempt %d: %s, %v", i, resp.Status, resp.Header)
		}
	}
	resp := call("192.0.2.1", "")
	if resp.StatusCode != 429 || resp.Header.Get("RateLimit-Policy") != "30;w=300" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	if resp := call("192.0.2.1, 198.51.100.7", ""); resp.StatusCode != 401 {
		t.Errorf("another address: %s", resp.Status)
	}
	if resp := call("192.0.2.1", "sesame"); resp.StatusCode != 401 {
		t.Errorf("with the key: %s", resp.Status)
	}
	// Writes cost points, whichever method they come by.
	var writes []map[string]any
	for range 200 {
		writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note", "value": map[string]any{}})
	}
	n := 0
	var err error
	for ; err == nil && n < 20; n++ {
		err = alice.Procedure(t.Context(), "com.atproto.repo.applyWrites", map[string]any{"repo": alice.DID, "writes": writes}, nil)
	}
	if n != 9 || !errors.Is(err, &xrpc.Error{Status: 429, Name: "RateLimitExceeded"}) { // 8 × 600 of 5000 points
		t.Errorf("%d calls: %v", n, err)
	}
}

// startLogging is start with the server's log in a file.
func startLogging(t *testing.T, dir string, log *os.File, env ...string) *process {
	t.Helper()
	p := startWith(t, dir, log, env...)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if info, err := os.Stat(log.Name()); err == nil && info.Size() > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return p
}
