// Package testenv finds the external requirements of tests, and decides whether a missing one skips
// a test or fails it.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Shared returns the path of a file or folder of the reference data that lies
// in a folder named "shared" beside the module (protocol fixtures and official
// schemas, which are not part of this repository). The path is relative to that
// folder and slash-separated. Where it is missing the test is skipped, or fails
// if the environment says CI=true. PDSKIT_SHARED names the folder explicitly.
func Shared(t testing.TB, path string) string {
	t.Helper()
	root := os.Getenv("PDSKIT_SHARED")
	if root == "" {
		mod, err := moduleRoot()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(filepath.Dir(mod), "shared")
	}
	full := filepath.Join(root, filepath.FromSlash(path))
	if _, err := os.Stat(full); err != nil {
		Missing(t, "reference data %q: run .ci/fixtures, which fetches it into a folder named shared beside the module; PDSKIT_SHARED names another one", path)
	}
	return full
}

// NodeModules returns the folder node_modules in which packages of npm are. They are in .ci/node of
// the module once "npm install" was run there, or in the folder that PDSKIT_NPM names. Where one is
// missing, or Node.js itself, the test is skipped, or fails if the environment says CI=true.
func NodeModules(t testing.TB, packages ...string) string {
	t.Helper()
	NotOnJS(t, "programs cannot be started")
	Slow(t, "starts programs in Node.js")
	dir := os.Getenv("PDSKIT_NPM")
	if dir == "" {
		mod, err := moduleRoot()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(mod, ".ci", "node")
	}
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", filepath.FromSlash(name), "package.json")); err != nil {
			Missing(t, `the npm package %s: run "npm install" in the folder .ci/node, or name a folder where it was run in PDSKIT_NPM`, name)
		}
	}
	if _, err := exec.LookPath("node"); err != nil {
		Missing(t, "Node.js: the command node is not in PATH")
	}
	return filepath.Join(dir, "node_modules")
}

// NotOnJS skips the test on GOOS=js, for a reason such as "there are no pipes".
func NotOnJS(t testing.TB, reason string) {
	t.Helper()
	if runtime.GOOS == "js" {
		t.Skipf("on js %s", reason)
	}
}

// Missing skips the test with a message that says what it needs, or fails it
// if the environment says CI=true.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("under CI=true this test must run, but it lacks "+format, args...)
	}
	t.Skipf("this test needs "+format, args...)
}

// moduleRoot is the nearest folder above the working directory with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", os.ErrNotExist
		}
		dir = parent
	}
}

// Until waits until something is so, for a minute at most. It is for what no event tells of.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
