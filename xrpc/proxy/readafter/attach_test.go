package readafter

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
)

// TestAttach: what the proxy called before is still called, and only answers of accounts to some
// methods are edited.
func TestAttach(t *testing.T) {
	a := newAccount(t)
	uri := a.post("3zzzzzzzzzz2a", "hello", nil)
	requests, responses := 0, 0
	p := &proxy.Proxy{
		Request:  func(*xrpc.Request, *http.Request) { requests++ },
		Response: func(*xrpc.Request, syntax.DID, *http.Response) { responses++ },
	}
	a.merger().Attach(p)
	for _, x := range []struct {
		method   string
		caller   syntax.DID
		accept   string
		edited   bool
		encoding string
	}{
		{timeline, alice, "br, gzip", true, "gzip"},
		{timeline, alice, "br", true, "identity"},
		{timeline, "", "br", false, "identity"},
		{"app.bsky.feed.getFeed", alice, "br", false, ""},
	} {
		r := &xrpc.Request{Request: get(x.method, "limit=50"), NSID: syntax.NSID(x.method)}
		r.Header.Set("Accept-Encoding", x.accept)
		out := httptest.NewRequest("GET", "/", nil)
		p.Request(r, out)
		if got := out.Header.Get("Accept-Encoding"); got != x.encoding {
			t.Errorf("%s: asks for %q, want %q", x.method, got, x.encoding)
		}
		res := answer(200, a.rev, feedBody("c", item(bob, "b", -9999)))
		p.Response(r, x.caller, res)
		if got := strings.Contains(readAll(t, res), uri); got != x.edited {
			t.Errorf("%s of %q: edited %v, want %v", x.method, x.caller, got, x.edited)
		}
	}
	if requests != 4 || responses != 4 {
		t.Errorf("%d requests and %d responses", requests, responses)
	}
}

func TestAttachOfWhatLacksSomething(t *testing.T) {
	for name, m := range map[string]*Merger{
		"Repos":  {Handle: func(context.Context, syntax.DID) (syntax.Handle, error) { return "", nil }},
		"Handle": {Repos: newAccount(t).host},
	} {
		func() {
			defer func() {
				if err, _ := recover().(string); !strings.Contains(err, "Merger."+name+" is missing") {
					t.Errorf("without %s: %v", name, err)
				}
			}()
			m.Attach(&proxy.Proxy{})
		}()
	}
}
