package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/proxy"
)

const (
	alice   = "did:web:alice.example"
	service = "did:web:api.example"
	ref     = service + "#bsky_appview"
)

// documents is a Resolver.
type documents map[syntax.DID]*identity.Document

func (d documents) ResolveDID(_ context.Context, did syntax.DID) (*identity.Document, error) {
	if doc := d[did]; doc != nil {
		return doc, nil
	}
	switch {
	case strings.Contains(string(did), "away"):
		return nil, identity.ErrUnavailable
	case strings.Contains(string(did), "gone"):
		return nil, identity.ErrTombstoned
	}
	return nil, identity.ErrNotFound
}

func document(did syntax.DID, id, endpoint string) *identity.Document {
	return &identity.Document{ID: did, Services: []identity.Service{{ID: "#" + id, Type: "X", Endpoint: endpoint}}}
}

// setup is a host with a proxy to an upstream server.
type setup struct {
	t     testing.TB
	proxy *proxy.Proxy
	key   *crypto.PrivateKey
	url   string // of the host
	asked []string
}

func newSetup(t testing.TB, upstream http.HandlerFunc, change func(p *proxy.Proxy)) *setup {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewUnstartedServer(upstream)
	up.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	up.Start()
	t.Cleanup(up.Close)
	s := &setup{t: t, key: key}
	s.proxy = &proxy.Proxy{
		Development: true,
		Resolver:    documents{service: document(service, "bsky_appview", up.URL+"/ignored/path")},
		Signer: func(_ context.Context, did syntax.DID) (crypto.Signer, error) {
			if did != alice {
				t.Errorf("signed as %s", did)
			}
			return key, nil
		},
		Auth: func(r *xrpc.Request) (auth.Principal, error) {
			s.asked = append(s.asked, string(r.NSID))
			if r.Header.Get("Authorization") != "Bearer session" {
				return auth.Principal{}, &xrpc.Error{Status: 401, Name: "AuthMissing", Message: "Authentication Required"}
			}
			return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, nil
		},
	}
	if change != nil {
		change(s.proxy)
	}
	host := httptest.NewUnstartedServer(&xrpc.Server{Fallback: s.proxy.Route()})
	host.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	host.Start()
	t.Cleanup(host.Close)
	s.url = host.URL
	return s
}

// answer is what a client sees.
type answer struct {
	Status int
	Error  string
	Body   string
}

// call makes a request with the session of alice for a service. Headers are "Name: value".
func (s *setup) call(method, path string, body io.Reader, headers ...string) (answer, http.Header) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+"/xrpc/"+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer session")
	r.Header.Set("Atproto-Proxy", ref)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if errors.Is(err, io.EOF) {
		return answer{0, "", "(broken off)"}, nil
	} else if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		text = append(text, " (broken off)"...)
	}
	var env struct{ Error string }
	json.Unmarshal(text, &env)
	return answer{resp.StatusCode, env.Error, string(text)}, resp.Header
}

func check(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
