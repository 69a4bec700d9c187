package pds

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/recent"
)

// line is what is logged of a request.
func line(r *xrpc.Request, status int) string {
	var b strings.Builder
	s := &Server{log: slog.New(slog.NewTextHandler(&b, nil))}
	s.logRequest(r, status, 1500*time.Microsecond)
	return b.String()
}

// A line has the name of the error and who it was about, and nothing that a client keeps secret.
func TestRequestLine(t *testing.T) {
	r := func() *xrpc.Request {
		hr := httptest.NewRequest("POST", "/xrpc/com.atproto.server.createSession?token=hunter2", strings.NewReader(`{"password":"hunter2"}`))
		hr.Header.Set("Authorization", "Bearer hunter2")
		return &xrpc.Request{Request: hr, NSID: "com.atproto.server.createSession", ID: "ID"}
	}
	failed := r()
	failed.Error, failed.Account = "AuthenticationRequired", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	if got := line(failed, 401); !strings.Contains(got, "status=401 ms=1.5 from=192.0.2.1 error=AuthenticationRequired account=did:plc:ewvi7nxzyoun6zhxrhs64oiz") {
		t.Error(got)
	}
	signed := r()
	signed.Principal = auth.Principal{DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}
	got := line(signed, 200)
	if !strings.Contains(got, " did=did:plc:ewvi7nxzyoun6zhxrhs64oiz") || strings.Contains(got, "error=") || strings.Contains(got, "account=") {
		t.Error(got)
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("a secret: %s", got)
	}
}

// BenchmarkRequestLine is the cost of a line in the log, written to a file as the reference server does, and
// of a request that has none.
func BenchmarkRequestLine(b *testing.B) {
	file, err := os.CreateTemp(b.TempDir(), "log")
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	hr := httptest.NewRequest("POST", "/xrpc/com.atproto.repo.createRecord", nil)
	hr.Header.Set("User-Agent", "an app/1.0 (and its platform)")
	r := &xrpc.Request{Request: hr, NSID: "com.atproto.repo.createRecord", ID: "ABCDEFGHIJKLMNOP", Principal: auth.Principal{DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}}
	get := &xrpc.Request{Request: httptest.NewRequest("GET", "/xrpc/com.atproto.repo.getRecord", nil), NSID: "com.atproto.repo.getRecord"}
	run := func(name string, w io.Writer, r *xrpc.Request) {
		b.Run(name, func(b *testing.B) {
			errors := &recent.Errors{}
			s := &Server{log: slog.New(errors.Handler(slog.NewTextHandler(w, nil)))}
			b.ReportAllocs()
			for b.Loop() {
				s.logRequest(r, 200, time.Millisecond)
			}
		})
	}
	run("write/file", file, r)
	run("write/discard", io.Discard, r)
	run("read", io.Discard, get)
}
