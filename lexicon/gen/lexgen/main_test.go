package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRun(t *testing.T) {
	schemas, out := t.TempDir(), filepath.Join(t.TempDir(), "api")
	note := `{"lexicon":1,"id":"com.example.note","defs":{"main":{"type":"record","key":"tid","record":{"type":"object","properties":{"text":{"type":"string"}}}}}}`
	if err := os.WriteFile(filepath.Join(schemas, "note.json"), []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-out", out, "-schemas", schemas, "-trim", "com.example", "com.example.*"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"com.example.go", "caller.go"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	// A second run leaves nothing of the first, and nothing else out.
	if err := os.WriteFile(filepath.Join(out, "own.go"), []byte("package api\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-out", out, "-client=false", "-raw", "app.bsky.actor.defs#preferences", "app.bsky.actor.getPreferences"}); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(filepath.Join(out, "*")); len(names) != 2 || filepath.Base(names[0]) != "app.bsky.actor.go" || filepath.Base(names[1]) != "own.go" {
		t.Error(names)
	}
	for _, args := range [][]string{{}, {"-out", out, "com.nowhere.*"}, {"-schemas", filepath.Join(schemas, "none"), "x"}} {
		if run(args) == nil {
			t.Errorf("%v succeeds", args)
		}
	}
}
