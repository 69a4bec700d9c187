//go:build !js

package cloudflare_test

import (
	"io"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/storage/cloudflare"
)

func module(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// runInside runs tests of this package inside a Durable Object, and returns what they print.
func runInside(t *testing.T, query url.Values, args ...string) string {
	t.Helper()
	workerd.Program(t) // skips the test before anything is built
	s := workerd.Start(t, workerd.Config{
		Main: "tests.mjs",
		Modules: map[string][]byte{
			"tests.mjs": module(t, "tests.mjs"), "go_fs.mjs": module(t, "go_fs.mjs"), "shim.mjs": []byte(cloudflare.Shim),
			"wasm_exec.js": workerd.Exec(t), "main.wasm": workerd.Build(t, ".", true),
		},
		Classes: []string{"Tests"},
	})
	query["arg"] = args
	r, err := workerd.Client.Get(s.URL + "/?" + query.Encode())
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	if !strings.HasSuffix(string(b), "\nexit: 0\n") || strings.Contains(string(b), "no tests to run") {
		t.Errorf("the tests inside have failed:\n%s\n%s", b, s.Log())
	}
	return string(b)
}

// The laws of objects hold over the SQLite of a Durable Object.
func TestInside(t *testing.T) {
	t.Log(runInside(t, url.Values{}, "-test.v", "-test.run", "^TestObject$"))
}
