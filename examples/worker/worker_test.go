//go:build !js

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/worker/command"
	"github.com/pdskit/pdskit/examples/worker/edge"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/migrate"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

const adminPassword = "the operator's"

// edgeWorld is the Worker in workerd, in a network with servers that run natively.
type edgeWorld struct {
	t       *testing.T
	net     *pdstest.Network
	workerd *workerd.Server
	plc     string      // URL of the directory
	mail    chan string // the bodies of requests that are to send mail
}

// deploy starts the Worker with servers of some host names, one account each.
func deploy(t *testing.T, hosts ...string) *edgeWorld {
	return deployWith(t, map[string]string{"PDS_HOSTNAMES": strings.Join(hosts, " ")}, hosts...)
}

// deployWith starts the Worker with further variables, reachable by some host names.
func deployWith(t *testing.T, vars map[string]string, hosts ...string) *edgeWorld {
	t.Helper()
	workerd.Program(t) // skips the test before anything is built
	w := &edgeWorld{t: t, net: pdstest.New(t), mail: make(chan string, 100)}
	plc := httptest.NewServer(w.net.Directory)
	t.Cleanup(plc.Close)
	w.plc = plc.URL
	mail := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.mail <- string(b)
	}))
	t.Cleanup(mail.Close)
	modules := map[string][]byte{"wasm_exec.js": workerd.Exec(t), "shim.mjs": []byte(cloudflare.Shim), "main.wasm": workerd.Build(t, ".", false)}
	modules["worker.mjs"], modules["routes.mjs"] = []byte(edge.Module), []byte(edge.Routes)
	modules["bucket.mjs"] = []byte(workerd.Bucket)
	b, err := os.ReadFile("testdata/test.mjs")
	if err != nil {
		t.Fatal(err)
	}
	modules["test.mjs"] = b
	text := map[string]string{
		"PDS_MASTER_KEY": strings.Repeat("0a", 32), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": strings.Repeat("0b", 32), "PDS_ADMIN_PASSWORD": adminPassword,
		"PDS_DID_PLC_URL": w.plc, "PDS_CRAWLERS": "off", "PDS_BSKY_APP_VIEW_URL": "off", "PDS_REPORT_SERVICE_URL": "off", "PDS_DEV_MODE": "true",
		"PDS_EMAIL_HOOK_URL": mail.URL, "PDS_EMAIL_FROM_ADDRESS": "pds@example.com",
	}
	maps.Copy(text, vars)
	w.workerd = workerd.Start(t, workerd.Config{Modules: modules, Main: "test.mjs", Classes: []string{"Server"}, Private: true, Text: text})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.workerd.Log())
		}
	})
	for _, host := range hosts {
		w.net.Handle(host, w.proxy(host))
	}
	return w
}

// proxy passes requests on to the server of a host name.
func (w *edgeWorld) proxy(host string) http.Handler {
	return &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			to, _ := url.Parse(w.workerd.URL)
			r.SetURL(to)
			r.Out.Host = host
		},
	}
}

// client returns a client of the server of a host name.
func (w *edgeWorld) client(host string) *xrpc.Client {
	return &xrpc.Client{Host: "https://" + host, HTTP: w.net.Client()}
}

// invite makes an invite code, as the operator.
func (w *edgeWorld) invite(host string) string {
	w.t.Helper()
	c := w.client(host)
	c.Authorize = func(r *http.Request) error {
		r.SetBasicAuth("admin", adminPassword)
		return nil
	}
	out, err := api.ServerCreateInviteCode(w.t.Context(), c, api.ServerCreateInviteCodeInput{UseCount: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Code
}

// account makes the account of a server.
func (w *edgeWorld) account(host, password string) (syntax.DID, *xrpc.Client) {
	w.t.Helper()
	c := w.client(host)
	out, err := api.ServerCreateAccount(w.t.Context(), c, api.ServerCreateAccountInput{
		Handle: syntax.Handle(host), Email: "owner@example.com", Password: password, InviteCode: w.invite(host),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Authorize = xrpc.Bearer(out.AccessJWT)
	return out.DID, c
}

// The official client and the official verifier of streams, over WebSockets; then the process is killed
// and everything is still there, and our own verifier reads the stream from its start.
func TestOfficialClient(t *testing.T) {
	w := deploy(t, "alice.test")
	did, c := w.account("alice.test", "alice's password")
	w.officialClient("alice.test", "alice.test", did, c)
}

// officialClient lets the official client use an account of a server.
func (w *edgeWorld) officialClient(host, handle string, did syntax.DID, c *xrpc.Client) {
	t := w.t
	t.Helper()
	modules := testenv.NodeModules(t, "@atproto/api", "@atproto/identity", "@atproto/sync")
	front := httptest.NewServer(w.proxy(host)) // Node knows no such name
	defer front.Close()
	script, err := filepath.Abs("testdata/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, front.URL, w.plc, handle, "alice's password")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := map[string]any{
		"posts": []any{"third", "second"}, "blob": []any{3008.0, "image/png"},
		"seen": map[string]any{"create": 4.0, "delete": 1.0, "errors": []any{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	check := &command.Check{PLC: w.net.PLC().URL, HTTP: w.net.Client(), DNS: w.net.Resolver().DNS}
	for _, f := range check.Check(ctx, "https://"+host) {
		if f.Status != "ok" {
			t.Errorf("%+v", f)
		}
	}
	w.workerd.Restart(t)
	listed, err := api.RepoListRecords(ctx, c, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(did), Collection: "app.bsky.feed.post"})
	if err != nil || len(listed.Records) != 2 {
		t.Errorf("after a restart: %d posts, %v", len(listed.Records), err)
	}
	kinds := map[string]int{}
	for m, err := range w.follow(ctx, host) {
		if err != nil || m.Err != nil {
			t.Fatal(err, m.Err)
		}
		if kinds[string(m.Frame.Kind)]++; len(m.Records) == 1 && m.Records["com.example.note/last"] != nil {
			break
		}
	}
	if kinds["#commit"] < 5 || kinds["#identity"] == 0 || kinds["#account"] == 0 {
		t.Errorf("events %v", kinds)
	}
}

// follow reads and verifies the stream of a server from its start.
func (w *edgeWorld) follow(ctx context.Context, host string) func(yield func(stream.Message, error) bool) {
	return w.followOn(ctx, host, nil)
}

// followOn is follow that asks retry whether to connect again.
func (w *edgeWorld) followOn(ctx context.Context, host string, retry func(error) error) func(yield func(stream.Message, error) bool) {
	cursor := int64(0)
	plc := w.net.PLC()
	verifier := &commit.Verifier{Now: w.net.Clock.Now, Key: func(ctx context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
		doc, err := plc.Resolve(ctx, did)
		if err != nil {
			return nil, err
		}
		return doc.SigningKey()
	}}
	f := &stream.Follower{Verifier: verifier, Consumer: stream.Consumer{
		URL: "https://" + host + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: &cursor, HTTP: w.net.Client(), MaxDelay: time.Second, Retry: retry,
	}}
	return f.Messages(ctx)
}

// An account moves from a native server to the Worker and on to another native server, with its
// records and blobs, by the word of the servers and with tokens that they send by mail.
func TestAccountMovesInAndOut(t *testing.T) {
	deploy(t, "alice.test").moves("alice.test")
}

// moves moves an account in and out.
func (w *edgeWorld) moves(host string) {
	t := w.t
	t.Helper()
	first, last := w.net.PDS(), w.net.PDS()
	alice := first.Account("alice")
	for i := range 20 {
		alice.Create("com.example.note", map[string]any{"$type": "com.example.note", "n": i})
	}
	blob, err := api.RepoUploadBlob(t.Context(), alice, "text/plain", strings.NewReader(strings.Repeat("a blob ", 10_000)))
	if err != nil {
		t.Fatal(err)
	}
	alice.Create("com.example.file", map[string]any{"$type": "com.example.file", "blob": blob.Blob})
	dir := t.TempDir()
	move := func(name, from, to, oldPassword, newPassword string, token func(context.Context) (string, error)) {
		t.Helper()
		i := slices.IndexFunc(command.Commands(), func(c command.Info) bool { return c.Name == name })
		m := command.Commands()[i].New().(*command.Move)
		m.Options = migrate.Options{
			OldHost: "https://" + from, State: filepath.Join(dir, from), OldPassword: oldPassword, NewPassword: newPassword,
			PLC: w.net.PLC().URL, HTTP: w.net.Client(), Patience: -1,
			Ask: func(ctx context.Context, q migrate.Question) (string, error) { return token(ctx) },
		}
		var out bytes.Buffer
		io := command.IO{Stdout: &out, Stderr: &out, Env: map[string]string{"PDS_ADMIN_PASSWORD": adminPassword}}
		if err := m.Run(t.Context(), io, []string{string(alice.DID), "https://" + to}); err != nil {
			t.Fatalf("from %s to %s: %v\n%s", from, to, err, &out)
		}
		doc, err := w.net.PLC().Resolve(t.Context(), alice.DID)
		if err != nil {
			t.Fatal(err)
		}
		if pds, _ := doc.PDS(); pds != "https://"+to {
			t.Fatalf("the identity names %s", pds)
		}
		c := w.client(to)
		listed, err := api.RepoListRecords(t.Context(), c, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(alice.DID), Collection: "com.example.note"})
		if err != nil || len(listed.Records) != 20 {
			t.Fatalf("%d records at %s, %v", len(listed.Records), to, err)
		}
		status, err := api.RepoListRecords(t.Context(), c, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(alice.DID), Collection: "com.example.file"})
		if err != nil || len(status.Records) != 1 {
			t.Fatal(err)
		}
	}
	move("migrate in", first.Name, host, alice.Password, "at the edge", func(ctx context.Context) (string, error) {
		mail, err := w.net.Mail.Take(ctx, alice.Email, server.PLCOperation)
		return mail.Token, err
	})
	move("migrate out", host, last.Name, "at the edge", "at last", w.token)
}

// token waits for the mail in which the Worker sends what allows a change of identity.
func (w *edgeWorld) token(ctx context.Context) (string, error) {
	for {
		select {
		case text := <-w.mail:
			var m struct{ Subject, Text string }
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				return "", err
			}
			if token := tokenIn.FindString(m.Text); token != "" && strings.Contains(m.Subject, "identity") {
				return token, nil
			}
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// tokenIn is the form of a token in a mail.
var tokenIn = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// An app is let in by OAuth: its owner signs in and consents on the pages that the object serves. The
// process is killed between the steps, so that all of it must last.
func TestAppIsLetIn(t *testing.T) {
	w := deploy(t, "alice.test")
	did, _ := w.account("alice.test", "alice's password")
	w.lets("alice.test", &pdstest.Account{DID: did, Handle: "alice.test", Password: "alice's password"})
}

// lets lets an app into an account.
func (w *edgeWorld) lets(host string, alice *pdstest.Account) {
	t, did := w.t, alice.DID
	t.Helper()
	app := pdstest.LoopbackApp(w.net.Client(), "atproto transition:generic", "http://127.0.0.1/callback")
	w.net.Handle("127.0.0.1", http.NotFoundHandler()) // where the app would be
	login, err := app.PushTo(t.Context(), "https://"+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.workerd.Restart(t)
	browser := w.net.Browser()
	page, err := browser.Consent(login.URL, alice, nil)
	if err != nil {
		t.Fatal(err)
	}
	if page.URL.Host != "127.0.0.1" {
		t.Fatalf("%s: %d %s", page.URL, page.Status, page.Body)
	}
	w.workerd.Restart(t)
	session, err := login.Finish(t.Context(), page.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.workerd.Restart(t)
	if err := session.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	record, err := data.MarshalJSON(map[string]any{"$type": "com.example.note"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.RepoCreateRecord(t.Context(), session, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: "com.example.note", Record: record}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/account", "/admin"} {
		if page, err := browser.Open("https://" + host + path); err != nil || page.Status != 200 {
			t.Errorf("%s: %v %+v", path, err, page)
		}
	}
}

// Who asks for a host of no server gets no object, and so costs nothing but the request.
func TestUnknownHostsGetNoObject(t *testing.T) {
	w := deploy(t, "alice.test")
	for _, host := range []string{"mallory.test", "alice.test.mallory.test", "127.0.0.1"} {
		r, err := http.NewRequest("GET", w.workerd.URL+"/xrpc/_health", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := workerd.Client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", host, res.StatusCode)
		}
	}
}
