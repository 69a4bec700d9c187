package cli

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
)

// What a server refuses is told in words, wherever in an error it stands.
func TestInWords(t *testing.T) {
	for _, tt := range []struct {
		err  *xrpc.Error
		want string
	}{
		{&xrpc.Error{Status: 400, Name: "HandleNotAvailable", Message: "Handle already taken: alice.test"}, "Handle already taken: alice.test: choose another"},
		{&xrpc.Error{Status: 400, Name: "UnsupportedDomain", Message: "Not a supported handle domain"}, "pds account update-handle"},
		{&xrpc.Error{Status: 401, Name: "AuthMissing", Message: "Bad password"}, "PDS_ADMIN_PASSWORD"},
		{&xrpc.Error{Status: 429, Name: "RateLimitExceeded", Message: "Rate Limit Exceeded", Header: http.Header{"Retry-After": {"90"}}}, "Try again in 1m30s"},
		{&xrpc.Error{Status: 404, Message: "Not Found"}, "is it that of a PDS?"},
		{&xrpc.Error{Status: 500, Message: "Internal Server Error"}, "Its log says more"},
		{&xrpc.Error{Status: 503, Name: "ClockNotTrusted", Message: "x"}, "timedatectl"},
		{&xrpc.Error{Status: 400, Name: "InvalidRequest", Message: "Unknown email."}, "the server refuses: Unknown email"},
		{&xrpc.Error{Status: 400}, "the server refuses: bad request"},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("relay: %w", tt.err), errors.Join(errors.New("first"), fmt.Errorf("second: %w", tt.err))} {
			got := inWords(err)
			if !strings.Contains(got, tt.want) || strings.Contains(got, "xrpc:") || tt.err.Name != "" && strings.Contains(got, tt.err.Name) {
				t.Errorf("%v: %q, want %q", err, got, tt.want)
			}
		}
	}
	if got := inWords(errors.New("plain")); got != "plain" {
		t.Error(got)
	}
}

// Who wants a domain as a handle is told the record to make, and the DID; other refusals stay as they
// are.
func TestExplainHandle(t *testing.T) {
	refused := &xrpc.Error{Status: 400, Name: "InvalidHandle", Message: "External handle did not resolve to DID"}
	taken := &xrpc.Error{Status: 400, Name: "HandleNotAvailable", Message: "taken"}
	did := "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	for _, tt := range []struct {
		err    error
		handle string
		told   bool
	}{
		{refused, "Alice.Example.org", true},
		{refused, "alice.test", false},
		{refused, "alice", false},
		{taken, "alice.example.org", false},
		{errors.New("no connection"), "alice.example.org", false},
	} {
		got := explainHandle(tt.err, "did:plc:ewvi7nxzyoun6zhxrhs64oiz", tt.handle, []string{".test"}).Error()
		for _, part := range []string{"_atproto.alice.example.org", "did=" + did, "https://alice.example.org/.well-known/atproto-did"} {
			if strings.Contains(got, part) != tt.told {
				t.Errorf("%s: %v: %q in %q", tt.handle, tt.err, part, got)
			}
		}
	}
}
