//go:build linux

package cloudflare_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/storage/cloudflare"
)

// Requests are served: one program after the other in one object, which starts again when it panics.
func TestServe(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	t.Run("Requests", func(t *testing.T) { testRequests(t, s) })
	t.Run("LargeBodies", func(t *testing.T) { testLargeBodies(t, s) })
	t.Run("ClientGone", func(t *testing.T) { testClientGone(t, s) })
	t.Run("Panics", func(t *testing.T) { testPanics(t, s) })
	t.Run("Bodies", func(t *testing.T) { testBodies(t, s) })
	t.Run("CallsOfARecord", func(t *testing.T) { testCallsOfARecord(t, s) })
}

// A createRecord makes few calls of the object: they are what a request costs besides computing.
func testCallsOfARecord(t *testing.T, s *workerd.Server) {
	get(t, s, "/test/create")
	_ = createRecord(t, s)
	get(t, s, "/test/calls")
	const n = 10
	for range n {
		if status := createRecord(t, s); status != 200 {
			t.Fatal(status)
		}
	}
	var calls map[string]int
	if err := json.Unmarshal([]byte(get(t, s, "/test/calls")), &calls); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records: %v", n, calls)
	if calls["write"] != n || calls["transact"] != n || calls["get"]+calls["scan"] > 2*n || calls["wait"] > 0 {
		t.Errorf("%d records: %v", n, calls)
	}
}

// startWorker runs objects with the program testworker.
func startWorker(tb testing.TB, text map[string]string) *workerd.Server {
	tb.Helper()
	return startWorkerConfig(tb, workerd.Config{Text: text})
}

func startWorkerConfig(tb testing.TB, cfg workerd.Config) *workerd.Server {
	tb.Helper()
	workerd.Program(tb) // skips the test before anything is built
	cfg.Modules = map[string][]byte{
		"worker.mjs": module(tb, "worker.mjs"), "bucket.mjs": []byte(workerd.Bucket), "shim.mjs": []byte(cloudflare.Shim),
		"wasm_exec.js": workerd.Exec(tb), "main.wasm": workerd.Build(tb, "./internal/testworker", false),
	}
	cfg.Classes = []string{"Account"}
	return workerd.Start(tb, cfg)
}

// do makes a request, and returns the answer and its body.
func do(tb testing.TB, s *workerd.Server, method, path string, body io.Reader) (*http.Response, string) {
	tb.Helper()
	r, err := http.NewRequest(method, s.URL+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Add("X-Test", "one")
	r.Header.Add("X-Test", "two")
	resp, err := workerd.Client.Do(r)
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", method, path, err, s.Log())
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp, err.Error()
	}
	return resp, string(b)
}

// get is do for GET; it fails if the status is not 200.
func get(tb testing.TB, s *workerd.Server, path string) string {
	tb.Helper()
	r, body := do(tb, s, "GET", path, nil)
	if r.StatusCode != http.StatusOK {
		tb.Fatalf("GET %s: %s %s\n%s", path, r.Status, body, s.Log())
	}
	return body
}

func testRequests(t *testing.T, s *workerd.Server) {
	host := strings.TrimPrefix(s.URL, "http://")
	for path, want := range map[string]string{
		"/test/head?q=%20x": "GET " + host + " /test/head?q=%20x 127.0.0.1:0 tls=false length=0\nX-Test: [\"one, two\"]\n",
		"/test/bytes?n=0":   "",
		"/test/bytes?n=3":   "\x00\x00\x00",
	} {
		if got := get(t, s, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	r, body := do(t, s, "GET", "/test/answer?status=418&body=%3Chtml%3E", nil)
	if r.StatusCode != 418 || body != "<html>" || r.Header.Get("X-Test") != "line break" ||
		fmt.Sprint(r.Header.Values("Set-Cookie")) != "[a=1 b=2]" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%s %q %v", r.Status, body, r.Header)
	}
	for _, status := range []string{"204", "304"} {
		if r, body := do(t, s, "GET", "/test/answer?status="+status, nil); body != "" || !strings.HasPrefix(r.Status, status) {
			t.Errorf("%s: %s %q", status, r.Status, body)
		}
	}
	if r, body := do(t, s, "HEAD", "/test/bytes?n=5&length=5", nil); r.StatusCode != 200 || body != "" || r.ContentLength != 5 {
		t.Errorf("HEAD: %s, %d bytes, %q", r.Status, r.ContentLength, body)
	}
	if r, _ := do(t, s, "GET", "/test/bytes?n=5&length=4", nil); r.StatusCode != 500 && r.ContentLength == 5 {
		t.Errorf("more bytes than announced: %s", r.Status)
	}
}

// Bodies of all sizes arrive as they were sent, with and without their length.
func testBodies(t *testing.T, s *workerd.Server) {
	src := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 1, 65_535, 65_536, 65_537, 1<<20 - 1, 1 << 20, 5 << 20} {
		b := make([]byte, n)
		_, _ = src.Read(b)
		for _, known := range []bool{true, false} {
			var body io.Reader = bytes.NewReader(b)
			if !known {
				body = io.MultiReader(body)
			}
			if _, got := do(t, s, "POST", "/test/echo", body); got != string(b) {
				t.Errorf("%d bytes, length known %v: %d others came back", n, known, len(got))
			}
		}
	}
}

// Large bodies go up and down in flat memory.
func testLargeBodies(t *testing.T, s *workerd.Server) {
	const n = 16 << 20
	if _, got := do(t, s, "POST", "/test/sum", io.LimitReader(zeros{}, n)); got != fmt.Sprintf("%d %x <nil>", n, sumOfZeros(n)) {
		t.Error(got)
	}
	r, err := workerd.Client.Get(s.URL + fmt.Sprintf("/test/bytes?n=%d&length=%d", n, n))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got, err := io.Copy(io.Discard, r.Body); got != n || err != nil || r.ContentLength != n {
		t.Errorf("%d of %d bytes: %v", got, r.ContentLength, err)
	}
	if m := memoryOf(t, s, "one"); m > 24<<20 {
		t.Errorf("%d bytes of linear memory", m)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func sumOfZeros(n int64) []byte {
	h := sha256.New()
	_, _ = io.Copy(h, io.LimitReader(zeros{}, n))
	return h.Sum(nil)
}

// A client that stops reading stops the handler, and one that leaves ends its context.
func testClientGone(t *testing.T, s *workerd.Server) {
	get(t, s, "/test/canceled")
	for i, path := range []string{"/test/trickle"} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			_, _ = bufio.NewReader(resp.Body).Peek(5)
			<-ctx.Done()
		}()
		testenv.Until(t, path+" begins", func() bool { return get(t, s, "/test/canceled") == fmt.Sprint(i, " 1") })
		cancel()
		testenv.Until(t, path+" ends", func() bool { return get(t, s, "/test/canceled") == fmt.Sprint(i+1, " 0") })
	}
	if m := memoryOf(t, s, "one"); m > 20<<20 {
		t.Errorf("%d bytes of linear memory", m)
	}
}

func testPanics(t *testing.T, s *workerd.Server) {
	get(t, s, "/test/head?object=other")
	if r, _ := do(t, s, "GET", "/test/panic", nil); r.StatusCode != 500 {
		t.Errorf("panic in a handler: %s", r.Status)
	}
	// workerd itself ends an answer of unknown length as if it were whole.
	if _, body := do(t, s, "GET", "/test/panic?late=1", nil); !strings.Contains(body, "unexpected EOF") {
		t.Errorf("a panic after the head: %q", body)
	}
	one, other := program(t, s, "one"), program(t, s, "other")
	for how, anew := range map[string]bool{"panic": true, "exit": true, "goexit": false} {
		if r, _ := do(t, s, "GET", "/test/die?how="+how, nil); r.StatusCode != 500 {
			t.Errorf("%s: %s", how, r.Status)
		}
		now := program(t, s, "one")
		if (now != one) != anew {
			t.Errorf("%s: program %s after %s", how, now, one)
		}
		one = now
	}
	if now := program(t, s, "other"); now != other {
		t.Error("another object was started anew")
	}
}

// program is the number of an object's program.
func program(tb testing.TB, s *workerd.Server, object string) (id string) {
	tb.Helper()
	if _, err := fmt.Sscan(get(tb, s, "/test/memory?object="+object), new(int), new(int), &id); err != nil {
		tb.Fatal(err)
	}
	return id
}
