package plctest

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// The official client (npm package @did-plc/lib) against this directory, and this
// module's validation of what it wrote.
func TestOfficialClient(t *testing.T) {
	modules := testenv.NodeModules(t, "@did-plc/lib", "@atproto/crypto")
	script, err := filepath.Abs("testdata/official_client.js")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(open(t, Config{}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, srv.URL)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for line := range strings.Lines(string(out)) {
		var pair [2]any
		if err := json.Unmarshal([]byte(line), &pair); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got[pair[0].(string)] = pair[1]
	}
	did, _ := got["did"].(string)
	delete(got, "did")
	want := map[string]any{
		"document":   []any{true, []any{"at://bob.example.com"}, "https://new.example.com"},
		"log":        []any{3.0, []any{"at://bob.example.com"}},
		"nullified":  []any{false, true, true, false},
		"again":      400.0,
		"tombstoned": 410.0,
		"unknown":    404.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	client := &identity.PLCClient{URL: srv.URL}
	entries, err := client.AuditLog(ctx, syntax.DID(did))
	if err != nil {
		t.Fatal(err)
	}
	if log, err := identity.ValidatePLCLog(syntax.DID(did), entries); err != nil || log.Len() != 5 || log.Last().Type != identity.PLCTombstone {
		t.Error(err)
	}
}
