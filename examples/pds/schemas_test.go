package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// Answers that do not conform do not pass unseen.
func TestOutputsAreValidated(t *testing.T) {
	answer := func(body string) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
	}
	for body, ok := range map[string]bool{
		`{"did":"did:web:example.com"}`: true, `{"did":"example"}`: false, `{}`: false, `[]`: false, `{`: false,
	} {
		c := &xrpc.Client{Host: "https://example.com", HTTP: &http.Client{Transport: newCalls(answer(body))}}
		if err := c.Query(t.Context(), "com.atproto.identity.resolveHandle", nil, new(any)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Every method that the server serves has its schema in the binary.
func TestServedMethodsHaveSchemas(t *testing.T) {
	catalog := lexicon.Builtin()
	found := inProcess(t, nil).Routes()
	for nsid := range found {
		if _, err := catalog.Method(syntax.NSID(nsid)); err != nil {
			t.Errorf("%s: %v", nsid, err)
		}
	}
	if len(found) < 60 {
		t.Errorf("only %d methods were found", len(found))
	}
}

// The field "validate" of writes decides whether a schema must be known, and is followed where it
// is.
func TestValidateOfWrites(t *testing.T) {
	p := start(t, t.TempDir())
	alice := p.register("alice")
	const like = `{"$type":"app.bsky.feed.like","createdAt":"2026-01-15T12:30:45Z","subject":{"uri":"at://did:web:a.b/app.bsky.feed.post/%d","cid":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"}}`
	n := 0
	for _, c := range []struct {
		collection, record, validate string
		status                       string // "valid", "unknown", "" or what the error says
		ok                           bool
	}{
		{"app.bsky.feed.like", like, ``, "valid", true},
		{"app.bsky.feed.like", like, `true`, "valid", true},
		{"app.bsky.feed.like", like, `false`, "", true},
		{"app.bsky.feed.like", `{"createdAt":"yesterday"}`, ``, "Invalid app.bsky.feed.like record", false},
		{"app.bsky.feed.like", `{"createdAt":"yesterday"}`, `true`, "Invalid app.bsky.feed.like record", false},
		{"app.bsky.feed.like", `{"createdAt":"yesterday"}`, `false`, "", true},
		{"app.bsky.feed.like", `{"n":1.5}`, `false`, "Invalid", false},
		{"app.bsky.feed.like", `{"$type":"app.bsky.feed.post"}`, `false`, "Invalid $type", false},
		{"com.example.note", `{"n":1}`, ``, "unknown", true},
		{"com.example.note", `{"n":1}`, `true`, "Unknown lexicon type", false},
		{"com.example.note", `{"n":1}`, `false`, "", true},
		{"com.example.note", `{"b":{"$type":"blob"}}`, `false`, "Invalid", false},
	} {
		for _, method := range []string{"createRecord", "putRecord", "applyWrites"} {
			n++
			record := c.record
			if strings.Contains(record, "%d") {
				record = fmt.Sprintf(record, n)
			}
			in := map[string]any{"repo": alice.DID}
			write := map[string]any{"collection": c.collection, "rkey": fmt.Sprintf("3jzfcijpj2%03d", 222+n%500)}
			write["rkey"] = strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(write["rkey"].(string))
			if method == "applyWrites" {
				write["$type"], write["value"] = "com.atproto.repo.applyWrites#create", json.RawMessage(record)
				in["writes"] = []any{write}
			} else {
				write["repo"], write["record"] = alice.DID, json.RawMessage(record)
				in = write
			}
			if c.validate != "" {
				in["validate"] = json.RawMessage(c.validate)
			}
			var out struct {
				ValidationStatus string
				Results          []struct{ ValidationStatus string }
			}
			err := alice.Procedure(t.Context(), "com.atproto.repo."+method, in, &out)
			got := out.ValidationStatus
			if len(out.Results) == 1 {
				got = out.Results[0].ValidationStatus
			}
			var e *xrpc.Error
			switch {
			case c.ok && (err != nil || got != c.status):
				t.Errorf("%s of %s in %s, validate %q: %q, %v, want %q", method, record, c.collection, c.validate, got, err, c.status)
			case !c.ok && (!errors.As(err, &e) || e.Name != "InvalidRequest" || !strings.Contains(e.Message, c.status)):
				t.Errorf("%s of %s in %s, validate %q: %v, want %q", method, record, c.collection, c.validate, err, c.status)
			}
		}
	}
}
