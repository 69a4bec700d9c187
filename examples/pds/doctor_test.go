package main_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// pds doctor looks at a server from beside it: all is well while it runs, and the exit code says if not.
func TestDoctorCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, dir)
	p.register("alice")
	o := newOperator(t, dir, p.port())
	var report struct {
		Level    string
		Findings []struct{ Check, Level, Text, Remedy string }
	}
	o.ok(&report, "doctor")
	found := map[string]string{}
	bad := false
	for _, f := range report.Findings {
		found[f.Check] = f.Level
		bad = bad || f.Level != "ok" && f.Level != "skipped" && f.Check != "space" // the disk here may be full
	}
	if bad || found["server"] != "ok" || found["accounts"] != "ok" || found["modes"] != "ok" || len(found) < 8 {
		text, _ := json.MarshalIndent(report, "", " ")
		t.Errorf("%s", text)
	}
	out, _, _ := o.run("doctor")
	if strings.Contains(out, "ok       ") || !strings.Contains(out, " 0 problems.") {
		t.Error(out)
	}
	if out, _, _ = o.run("doctor", "-all"); !strings.Contains(out, "of 1 accounts, 1 have a DID document") {
		t.Error(out)
	}
	p.interrupt()
	stdout, stderr, code := o.run("doctor")
	if code != 3 || !strings.Contains(stdout, "systemctl start pds") || !strings.Contains(stderr, "there are problems") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}
