package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// TestForwarding calls methods that the server does not have: they go to the
// AppView with a service token and without the caller's credentials, and what the caller has just
// written is in the answer.
func TestForwarding(t *testing.T) {
	ctx := context.Background()
	var mu sync.Mutex
	var last *http.Request
	var rev syntax.TID
	appView := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		last = r
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Atproto-Repo-Rev", string(rev))
		w.Header().Set("Set-Cookie", "a=b")
		switch strings.TrimPrefix(r.URL.Path, "/xrpc/") {
		case "app.bsky.actor.getProfile":
			fmt.Fprintf(w, `{"did":%q,"handle":"alice.test","displayName":"Old"}`, r.URL.Query().Get("actor"))
		case "app.bsky.feed.broken":
			http.Error(w, "oops", http.StatusInternalServerError)
		case "com.atproto.moderation.createReport":
			var in map[string]any
			json.NewDecoder(r.Body).Decode(&in)
			in["id"], in["reportedBy"], in["createdAt"] = 1, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "2026-01-01T00:00:00.000Z"
			json.NewEncoder(w).Encode(in)
		default:
			fmt.Fprint(w, `{"ok":true}`)
		}
	}))
	defer appView.Close()
	b := newSandbox(t, "PDS_BSKY_APP_VIEW_URL="+appView.URL, "PDS_BSKY_APP_VIEW_DID=did:web:appview.example.com",
		"PDS_REPORT_SERVICE_URL="+appView.URL, "PDS_REPORT_SERVICE_DID=did:web:mod.example.com")
	alice := b.register("alice")

	var ok struct{ OK bool }
	if err := alice.Query(ctx, "com.example.thing.get", url.Values{"x": {"1"}}, &ok); err != nil || !ok.OK {
		t.Fatal(ok, err)
	}
	token := strings.TrimPrefix(last.Header.Get("Authorization"), "Bearer ")
	for claimed, want := range map[string]string{"iss": string(alice.DID), "aud": "did:web:appview.example.com", "lxm": "com.example.thing.get"} {
		if got := claim(t, token, claimed); got != want {
			t.Errorf("%s is %v, want %s", claimed, got, want)
		}
	}
	if last.URL.RawQuery != "x=1" || strings.Contains(token, alice.AccessJWT) {
		t.Errorf("forwarded %s", last.URL)
	}
	fails(t, b.anonymous().Query(ctx, "com.example.thing.get", nil, nil), 401, "AuthMissing")
	fails(t, alice.Query(ctx, "app.bsky.feed.broken", nil, nil), 502, "UpstreamFailure")
	var report struct{ Reason string }
	alice.call(t, "com.atproto.moderation.createReport", map[string]any{"reason": "spam", "reasonType": "com.atproto.moderation.defs#reasonSpam",
		"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}}, &report)
	if report.Reason != "spam" || claim(t, strings.TrimPrefix(last.Header.Get("Authorization"), "Bearer "), "aud") != "did:web:mod.example.com" {
		t.Errorf("report %+v", report)
	}

	// An app password does not open direct messages, unless it is privileged.
	for _, privileged := range []bool{false, true} {
		var app struct{ Password string }
		alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": fmt.Sprint(privileged), "privileged": privileged}, &app)
		phone, err := b.login(t, "alice.test", app.Password)
		if err != nil {
			t.Fatal(err)
		}
		if err := phone.Query(ctx, "chat.bsky.convo.listConvos", nil, nil); (err == nil) != privileged {
			t.Errorf("privileged %v: %v", privileged, err)
		}
	}

	// Read after write.
	put := func(name string) {
		alice.call(t, "com.atproto.repo.putRecord", map[string]any{"repo": alice.DID, "collection": "app.bsky.actor.profile", "rkey": "self",
			"record": map[string]any{"displayName": name}}, nil)
	}
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{}}, nil)
	mu.Lock()
	rev = latest(t, alice)
	mu.Unlock()
	profile := func() (name string, lag string) {
		resp, err := alice.Get(ctx, "app.bsky.actor.getProfile", url.Values{"actor": {string(alice.DID)}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out struct{ DisplayName string }
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Set-Cookie") != "" {
			t.Error("the AppView set a cookie")
		}
		return out.DisplayName, resp.Header.Get("Atproto-Upstream-Lag")
	}
	if name, lag := profile(); name != "Old" || lag != "" {
		t.Errorf("profile %q, lag %q", name, lag)
	}
	put("New")
	if name, lag := profile(); name != "New" || lag == "" {
		t.Errorf("profile after the write %q, lag %q", name, lag)
	}
	mu.Lock()
	rev = latest(t, alice)
	mu.Unlock()
	if name, lag := profile(); name != "Old" || lag != "" {
		t.Errorf("profile once the AppView has it %q, lag %q", name, lag)
	}
}
