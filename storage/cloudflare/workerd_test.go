//go:build linux

package cloudflare_test

import (
	"context"
	"errors"
	"io"
	"net/http"
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
func runInside(t *testing.T, cfg workerd.Config, query url.Values, args ...string) string {
	t.Helper()
	t.Parallel()
	workerd.Program(t) // skips the test before anything is built
	cfg.Main, cfg.Classes = "tests.mjs", []string{"Tests"}
	cfg.Modules = map[string][]byte{
		"tests.mjs": module(t, "tests.mjs"), "go_fs.mjs": module(t, "go_fs.mjs"), "shim.mjs": []byte(cloudflare.Shim),
		"wasm_exec.js": workerd.Exec(t), "main.wasm": workerd.Build(t, ".", true),
	}
	query["arg"] = args
	s := workerd.Start(t, cfg)
	b, err := request(t, s, query)
	if cfg.Buckets != nil && errors.Is(err, context.DeadlineExceeded) {
		t.Logf("%v\n%s", err, s.Log())
		s.Kill()
		s = workerd.Start(t, cfg)
		b, err = request(t, s, query)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	if !strings.HasSuffix(string(b), "\nexit: 0\n") || strings.Contains(string(b), "no tests to run") {
		t.Errorf("the tests inside have failed:\n%s\n%s", b, s.Log())
	}
	return string(b)
}

// request returns the whole answer.
func request(t *testing.T, s *workerd.Server, query url.Values) ([]byte, error) {
	ctx := t.Context()
	if os.Getenv("PDSKIT_LONG") == "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, workerd.Stuck)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := workerd.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// The laws of objects and of stores hold over the SQLite of a Durable Object.
func TestInside(t *testing.T) {
	t.Log(runInside(t, workerd.Config{}, url.Values{}, long("^(TestObject|TestStore|TestTemp|TestTransactionsOfTables)$", "/Replace/(Buffers|Unseen)$|/Blobs")...))
}

// long are arguments that run tests inside, with PDSKIT_LONG=1 those too that take long.
func long(run, skip string) []string {
	args := []string{"-test.v", "-test.run", run}
	if os.Getenv("PDSKIT_LONG") == "" {
		args = append(args, "-test.skip", skip)
	}
	return args
}

// They hold while clocks stand still, as on Cloudflare, where they move only with what comes from outside.
func TestInsideFrozen(t *testing.T) {
	t.Log(runInside(t, workerd.Config{}, url.Values{"frozen": {"1"}}, long("^(TestClockStandsStill|TestObject|TestStore)$", "/(Replace|Kill|Large|Blobs|History)")...))
}

// The laws of buckets hold over R2. Those that put the most are slow in miniflare, and run with
// PDSKIT_LONG=1.
func TestInsideBucket(t *testing.T) {
	t.Log(runInside(t, workerd.Config{Buckets: []string{"BLOBS"}}, url.Values{}, long("^TestBucket$", "/(Put|Pages|Concurrent)$")...))
}
