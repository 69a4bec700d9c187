package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/stream"
)

var _ = testenv.CheapPasswords()

// TestReadme holds the README against this program, and the program against what it says of its
// length.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(source)+"```\n") {
		t.Error("the program in the README differs from main.go")
	}
	_, code, _ := strings.Cut(string(source), "\n)\n")
	lines := 0
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines > 50 {
		t.Errorf("%d lines of code", lines)
	}
}

// client sends what the official clients send.
type client struct {
	t     *testing.T
	url   string
	token string
}

func (c *client) send(verb, path, contentType, body string, headers ...string) (status int, out map[string]any) {
	c.t.Helper()
	req, err := http.NewRequest(verb, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			c.t.Fatalf("%s: %v: %s", path, err, text)
		}
	}
	return resp.StatusCode, out
}

func (c *client) get(nsid string, headers ...string) map[string]any {
	c.t.Helper()
	status, out := c.send("GET", "/xrpc/"+nsid, "", "", headers...)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %v", nsid, status, out)
	}
	return out
}

func (c *client) post(nsid, body string) map[string]any {
	c.t.Helper()
	status, out := c.send("POST", "/xrpc/"+nsid, "application/json", body)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %v", nsid, status, out)
	}
	return out
}

// The calls that the official JavaScript client makes, in its order, when somebody logs in, looks
// around, and posts a picture.
func TestOfficialClient(t *testing.T) {
	var asked []string
	view := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			t.Error("the AppView is asked in nobody's name")
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"did":"did:web:x","handle":"x.test"}`)
	}))
	defer view.Close()

	var club *pds.Server
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { club.ServeHTTP(w, r) }))
	defer web.Close()
	url := strings.Replace(web.URL, "127.0.0.1", "localhost", 1)
	club = open(t.Context(), url, t.TempDir(), pds.AppView{Service: pds.Service{URL: view.URL, DID: "did:web:api.bsky.app"}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- club.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	c := &client{t: t, url: url}
	about := c.get("com.atproto.server.describeServer")
	if domains, _ := about["availableUserDomains"].([]any); len(domains) != 1 || domains[0] != ".club.test" {
		t.Errorf("describeServer: %v", about)
	}
	const account = `{"handle":%q,"email":%q,"password":"a password of some length"}`
	status, out := c.send("POST", "/xrpc/com.atproto.server.createAccount", "application/json", fmt.Sprintf(account, "mallory.club.test", "mallory@example.com"))
	if status != http.StatusForbidden || out["error"] != "NotAMember" {
		t.Errorf("a stranger: %d %v", status, out)
	}
	for _, name := range []string{"alice", "bob"} {
		c.post("com.atproto.server.createAccount", fmt.Sprintf(account, name+".club.test", name+"@club.example"))
	}

	session := c.post("com.atproto.server.createSession", `{"identifier":"alice.club.test","password":"a password of some length"}`)
	c.token, _ = session["accessJwt"].(string)
	if got := c.get("com.atproto.server.getSession"); got["did"] != session["did"] || got["handle"] != "alice.club.test" || got["active"] != true {
		t.Errorf("getSession: %v", got)
	}
	const proxy, name = "Atproto-Proxy", "did:web:api.bsky.app#bsky_appview"
	if got := c.get("app.bsky.actor.getPreferences", proxy, name); got["preferences"] == nil {
		t.Errorf("getPreferences: %v", got)
	}
	c.post("app.bsky.actor.putPreferences", `{"preferences":[{"$type":"app.bsky.actor.defs#adultContentPref","enabled":false}]}`)
	c.get("com.atproto.server.describeServer")
	if got := c.get("app.bsky.actor.getProfile?actor="+session["did"].(string), proxy, name); got["did"] == nil || len(asked) == 0 {
		t.Errorf("a call that is passed on: %v", got)
	}

	status, out = c.send("POST", "/xrpc/com.atproto.repo.uploadBlob", "image/png", "\x89PNG\r\n\x1a\npicture")
	if status != http.StatusOK {
		t.Fatalf("uploadBlob: %d %v", status, out)
	}
	blob, err := json.Marshal(out["blob"])
	if err != nil {
		t.Fatal(err)
	}
	post := c.post("com.atproto.repo.createRecord", fmt.Sprintf(`{"repo":%q,"collection":"app.bsky.feed.post","record":{"$type":"app.bsky.feed.post",
		"text":"hello","createdAt":"2026-01-15T12:30:45.123Z","embed":{"$type":"app.bsky.embed.images","images":[{"alt":"","image":%s}]}}}`, session["did"], blob))
	fresh := c.post("com.atproto.repo.createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{"$type":"com.example.note","text":"x"}}`, session["did"]))

	// The event stream has all of it.
	cursor := int64(0)
	f := &stream.Follower{Consumer: stream.Consumer{URL: url + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: &cursor}}
	var ops []string
	for m, err := range f.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Commit == nil {
			continue
		}
		for _, op := range m.Commit.Ops {
			ops = append(ops, "at://"+string(m.DID)+"/"+op.Path)
		}
		if len(ops) == 2 {
			break
		}
	}
	if got, want := strings.Join(ops, " "), fmt.Sprint(post["uri"], " ", fresh["uri"]); got != want {
		t.Errorf("events: %s, want %s", got, want)
	}

	// A session is renewed, and ended.
	c.token, _ = session["refreshJwt"].(string)
	again := c.post("com.atproto.server.refreshSession", "")
	c.token, _ = again["refreshJwt"].(string)
	c.post("com.atproto.server.deleteSession", "")
	resp, err := http.Get(url + "/about")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(text) != "The club's own PDS.\n" {
		t.Errorf("%s", text)
	}
}
