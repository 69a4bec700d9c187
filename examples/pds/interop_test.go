package main_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/testenv"
)

// TestOfficialPackages: the official client writes, reads and moves an account here; the official
// firehose consumer verifies every event, and the official repository code every export and proof;
// a repository that it made and signed is imported; service tokens are verified both ways.
func TestOfficialPackages(t *testing.T) {
	modules := testenv.NodeModules(t, "@atproto/api", "@atproto/crypto", "@atproto/identity", "@atproto/repo", "@atproto/sync", "@atproto/xrpc-server", "@did-plc/lib")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	p := start(t, t.TempDir())
	script, err := filepath.Abs("testdata/official.cjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "node", script, p.url, p.directory())
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("node: %v", err)
	}
	got := map[string]any{}
	for line := range strings.Lines(string(out)) {
		var pair [2]any
		if err := json.Unmarshal([]byte(line), &pair); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got[pair[0].(string)] = pair[1]
	}
	list := func(v ...any) []any { return v }
	want := map[string]any{
		// The official client.
		"applyWrites":        100.0,
		"posts":              list("a picture", "first"),
		"blob":               list("89504e470d0a1a0a", "image/png"),
		"collections":        list("app.bsky.actor.profile", "app.bsky.feed.like", "app.bsky.feed.post", "app.bsky.graph.follow", "com.example.note"),
		"handle":             list(true, true),
		"refreshed":          true,
		"session":            "alice.test",
		"wrong password":     "401 AuthenticationRequired",
		"no such record":     "400 RecordNotFound",
		"no such repository": "400 RepoNotFound",
		"not logged in":      "401 AuthMissing",
		// What it verifies.
		"records":          104.0,
		"proof":            list(7.0),
		"proof of absence": list(1.0, 0.0),
		"latest commit":    list(true, true),
		"service token":    list(true, "did:web:api.example.com", "app.bsky.feed.getFeedSkeleton"),
		"stream errors":    []any{},
		"streamed alice": list(map[string]any{
			"identity": 1.0, "account": 1.0, "sync": 1.0, "create": 107.0, "update": 2.0, "delete": 2.0,
		}, true),
		"streamed carol": list(map[string]any{"identity": 1.0, "account": 1.0, "sync": 1.0, "create": 1.0}, list("com.example.note/after")),
		// What it makes, and we verify.
		"token of a thief":         "401 BadJwtSignature",
		"token for another":        "401 BadJwtAudience",
		"token for another method": "401 BadJwtLexiconMethod",
		"too early":                "400 InvalidRequest",
		"moved":                    list(true, true, 300.0),
		"same records":             list(true, 300.0),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
