package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
)

// recipe is the block of commands after a text in the guide.
func recipe(t *testing.T, after string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("guide/backups.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), after)
	if !ok {
		t.Fatalf("the guide does not say %q", after)
	}
	for line := range strings.SplitSeq(rest, "\n") {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, command)
		} else if len(lines) > 0 {
			return lines
		}
	}
	return lines
}

// besides sees that a server with these variables and the environment of another one takes nothing of
// its: ports, metrics, relays.
func besides(t *testing.T, words []string) {
	t.Helper()
	env := map[string]string{
		"PDS_HOSTNAME": "pds.site.test", "PDS_DATA_DIRECTORY": "/var/lib/pds", "PDS_TLS_ACME": "true", "PDS_ACME_EMAIL": "admin@site.test",
		"PDS_CRAWLERS": "https://relay.site.test", "PDS_METRICS_ADDRESS": "127.0.0.1:2590",
	}
	for _, word := range words {
		if name, value, ok := strings.Cut(word, "="); ok {
			env[name] = value
		}
	}
	c, err := config.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS.ACME || c.Port == 443 || c.Bind != "localhost" || c.DataDirectory == "/var/lib/pds" || c.Metrics != "" || len(c.Crawlers) != 0 {
		t.Errorf("the second server has the place of the first one: %+v", c)
	}
}

// An account that was deleted comes back from a backup by the commands of the guide, under its DID
// and handle.
func TestDeletedAccountComesBack(t *testing.T) {
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	root := t.TempDir()
	dir, lost, backup := filepath.Join(root, "data"), filepath.Join(root, "lost"), filepath.Join(root, "backup")
	env := []string{"PDS_DID_PLC_URL=" + plc.URL, "PDS_ADMIN_PASSWORD=hunter2"}
	p := start(t, dir, env...)
	o := newOperator(t, dir, append(env, p.port())...)
	alice, bob := p.register("alice"), p.register("bob")
	for _, text := range []string{"one", "two"} {
		alice.aBlob(t, text)
	}
	o.ok(nil, "backup", backup)
	bob.aBlob(t, "after the backup")
	o.ok(nil, "account", "delete", "-yes", "alice.test")
	if _, err := p.login(t, "alice.test", "password of alice"); err == nil {
		t.Fatal("it is not deleted")
	}

	bin := program(t)
	if err := os.Symlink(bin, filepath.Join(root, "pds")); err != nil {
		t.Fatal(err)
	}
	var second *process
	var code, password string
	for _, line := range recipe(t, "## An account was deleted by mistake\n") {
		replace := []string{"install -d -m 700 -o pds -g pds", "mkdir -m 700", "/srv/lost", lost, "/var/backups/pds", backup, "alice.pds.example.com", "alice.test", "https://pds.example.com", p.url, "CODE", code}
		if strings.Contains(line, "pds serve &") {
			besides(t, strings.Fields(line))
			second = start(t, lost, env...)
			continue
		}
		if second != nil {
			replace = append(replace, "http://localhost:2584", second.url)
		}
		cmd := exec.Command("sh", "-ec", strings.NewReplacer(replace...).Replace(line))
		cmd.Dir = root
		cmd.Env = append(o.env, "PATH="+root+":"+os.Getenv("PATH"), "PDS_MIGRATE_OLD_PASSWORD="+password, "PDS_MIGRATE_NEW_PASSWORD=a new password")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		switch {
		case strings.Contains(line, "reset-password"):
			_, shown, _ := strings.Cut(string(out), "shown only now: ")
			password = strings.TrimSpace(shown)
		case strings.Contains(line, "invite create"):
			code = strings.TrimSpace(string(out))
		}
	}
	second.kill()
	back, err := p.login(t, "alice.test", "a new password")
	if err != nil || back.DID != alice.DID {
		t.Fatalf("%v, %v", back, err)
	}
	var status struct {
		Activated, ValidDid           bool
		IndexedRecords, ImportedBlobs int
	}
	if err := back.Query(t.Context(), "com.atproto.server.checkAccountStatus", nil, &status); err != nil || !status.Activated || !status.ValidDid || status.IndexedRecords != 2 || status.ImportedBlobs != 2 {
		t.Errorf("%+v, %v", status, err)
	}
	if err := back.note("after all"); err != nil {
		t.Error(err)
	}
	var r checkReport
	if o.ok(&r, "check"); r.Accounts != 2 || r.Found != 0 || r.MissingBlobs != 0 {
		t.Errorf("%+v", r)
	}
}
