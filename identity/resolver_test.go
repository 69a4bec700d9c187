package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

var ctx = context.Background()

// fakeDNS has TXT records by rooted name; "!" as the only one is a failure.
type fakeDNS map[string][]string

func (d fakeDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	records, ok := d[name]
	switch {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case len(records) == 1 && records[0] == "!":
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	case len(records) == 1 && records[0] == "hang":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return records, nil
}

// fakeDirectory has documents by DID and counts the requests. A nil document is a
// failure.
type fakeDirectory struct {
	mu    sync.Mutex
	docs  map[syntax.DID]*Document
	calls int
	block chan struct{} // closed to let requests through; nil: they pass
}

func (d *fakeDirectory) Resolve(ctx context.Context, did syntax.DID) (*Document, error) {
	d.mu.Lock()
	d.calls++
	doc, ok := d.docs[did]
	block := d.block
	d.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
	switch {
	case !ok:
		return nil, &PLCError{404, "DID not registered"}
	case doc == nil:
		return nil, &PLCError{502, "Bad Gateway"}
	}
	return doc, nil
}

func (d *fakeDirectory) set(did syntax.DID, doc *Document) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.docs[did] = doc
}

func (d *fakeDirectory) wantCalls(t *testing.T, n int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls != n {
		t.Errorf("%d requests to the directory, want %d", d.calls, n)
	}
}

const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
)

func claims(did syntax.DID, handles ...string) *Document {
	d := &Document{ID: did}
	for _, h := range handles {
		d.AlsoKnownAs = append(d.AlsoKnownAs, "at://"+h)
	}
	return d
}

// internet serves every host name by one handler, over TLS. Hosts under
// "down.example.com" cannot be reached; those under "nx.example.com" do not exist.
func internet(t *testing.T, h http.HandlerFunc) *http.Client {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			switch {
			case strings.HasSuffix(host, "down.example.com"):
				return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			case strings.HasSuffix(host, "nx.example.com"):
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			var d net.Dialer
			return d.DialContext(ctx, network, srv.Listener.Addr().String())
		},
	}}
}

func TestResolveWeb(t *testing.T) {
	client := internet(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/did.json" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		switch r.Host {
		case "a.example.com":
			io.WriteString(w, doc(""))
		case "other.example.com":
			io.WriteString(w, doc("")) // of a.example.com
		case "redirect.example.com":
			http.Redirect(w, r, "https://a.example.com/.well-known/did.json", http.StatusFound)
		case "html.example.com":
			io.WriteString(w, "<!doctype html>")
		case "huge.example.com":
			io.WriteString(w, doc(`,"x":"`+strings.Repeat("x", MaxDocumentSize)+`"`))
		case "error.example.com":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			http.NotFound(w, r)
		}
	})
	r := &Resolver{HTTP: client, Timeout: time.Minute}
	for did, want := range map[syntax.DID]error{
		"did:web:a.example.com":                                     nil,
		"did:web:other.example.com":                                 ErrMismatch,
		"did:web:redirect.example.com":                              ErrUnavailable,
		"did:web:html.example.com":                                  ErrDocument,
		"did:web:huge.example.com":                                  ErrTooLarge,
		"did:web:error.example.com":                                 ErrUnavailable,
		"did:web:none.example.com":                                  ErrNotFound,
		"did:web:x.nx.example.com":                                  ErrNotFound,
		"did:web:x.down.example.com":                                ErrUnavailable,
		"did:web:A.example.com":                                     ErrInvalid,
		"did:web:a.example.com:user:alice":                          ErrInvalid,
		"did:web:a.example.com%3A8443":                              ErrInvalid,
		"did:web:a.example.com%2Fx":                                 ErrInvalid,
		"did:web:localhost":                                         ErrInvalid,
		"did:web:localhost%3A2583":                                  ErrInvalid,
		"did:web:127.0.0.1":                                         ErrInvalid,
		"did:web:example":                                           ErrInvalid,
		"did:web:a.local":                                           ErrInvalid,
		"did:web:a.test":                                            ErrInvalid,
		"did:plc:short":                                             ErrInvalid,
		"did:plc:AAAAAAAAAAAAAAAAAAAAAAAA":                          ErrInvalid,
		"did:plc:aaaaaaaaaaaa1aaaaaaaaaaa":                          ErrInvalid,
		"did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF": ErrMethod,
		"did:web:":      ErrInvalid,
		"nonsense":      ErrInvalid,
		"":              ErrInvalid,
		"did:x:a b":     ErrInvalid,
		"did:web:a.b#c": ErrInvalid,
	} {
		t.Run(string(did), func(t *testing.T) {
			t.Parallel()
			got, err := r.ResolveDID(ctx, did)
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%v, want %v", err, want)
			}
			if err == nil && got.ID != did {
				t.Error(got.ID)
			}
		})
	}
}

func TestResolveWebInDevelopment(t *testing.T) {
	testenv.NotOnJS(t, "requests need the fetch function, which does not reach a server of the test")
	var did syntax.DID
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"id":%q}`, did) }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	did = syntax.DID("did:web:localhost%3A" + port)
	r := &Resolver{Development: true, Timeout: time.Minute}
	if _, err := r.ResolveDID(ctx, did); err != nil {
		t.Error(err)
	}
	for _, did := range []syntax.DID{"did:web:localhost%3A", "did:web:localhost%3A0", "did:web:localhost%3A99999", "did:web:localhost%3A080", "did:web:localhost%3a80",
		"did:web:localhost%3A80:x", "did:web:localhost%3A80%2Fx", "did:web:127.0.0.1%3A80"} {
		if _, err := r.ResolveDID(ctx, did); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", did, err)
		}
	}
}

// A zero Resolver reaches public addresses only: what a stranger names does not
// lead it into its own network.
func TestResolverIsGuarded(t *testing.T) {
	testenv.NotOnJS(t, "names are resolved by the fetch function")
	r := &Resolver{DNS: fakeDNS{}, Timeout: time.Minute}
	old := net.DefaultResolver // the client's
	net.DefaultResolver = nettest.NameServer(t, "127.0.0.1")
	t.Cleanup(func() { net.DefaultResolver = old })
	if _, err := r.ResolveDID(ctx, "did:web:inside.example.com"); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	_, err := r.ResolveHandle(ctx, "inside.example.com")
	var handleErr *HandleError
	if !errors.As(err, &handleErr) || !errors.Is(handleErr.HTTPS, ErrAddress) {
		t.Error(err)
	}
}

func TestLookup(t *testing.T) {
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{
		alice:                              claims(alice, "Alice.example.com", "second.example.com"),
		bob:                                claims(bob, "alice.example.com"), // a liar
		"did:plc:cccccccccccccccccccccccc": claims("did:plc:cccccccccccccccccccccccc"),
		"did:plc:dddddddddddddddddddddddd": claims("did:plc:dddddddddddddddddddddddd", "gone.example.com"),
		"did:plc:eeeeeeeeeeeeeeeeeeeeeeee": claims("did:plc:eeeeeeeeeeeeeeeeeeeeeeee", "handle.invalid"),
		"did:plc:ffffffffffffffffffffffff": nil,
	}}
	r := &Resolver{PLC: dir, HTTP: internet(t, http.NotFound), Timeout: time.Minute, DNS: fakeDNS{
		"_atproto.alice.example.com.":  {"did=" + string(alice)},
		"_atproto.second.example.com.": {"did=" + string(alice)},
		"_atproto.squat.example.com.":  {"did=" + string(alice)},
		"_atproto.key.example.com.":    {"did=did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"},
	}}
	for _, tc := range []struct {
		id        syntax.AtIdentifier
		did       syntax.DID
		handle    syntax.Handle
		handleErr error
		err       error
	}{
		{id: syntax.AtIdentifier(alice), did: alice, handle: "alice.example.com"},
		{id: "alice.example.com", did: alice, handle: "alice.example.com"},
		{id: "ALICE.example.com", did: alice, handle: "alice.example.com"},
		{id: "second.example.com", did: alice, handle: syntax.InvalidHandle, handleErr: ErrMismatch},
		{id: "squat.example.com", did: alice, handle: syntax.InvalidHandle, handleErr: ErrMismatch},
		{id: syntax.AtIdentifier(bob), did: bob, handle: syntax.InvalidHandle, handleErr: ErrMismatch},
		{id: "did:plc:cccccccccccccccccccccccc", did: "did:plc:cccccccccccccccccccccccc", handle: syntax.InvalidHandle, handleErr: ErrMismatch},
		{id: "did:plc:dddddddddddddddddddddddd", did: "did:plc:dddddddddddddddddddddddd", handle: syntax.InvalidHandle, handleErr: ErrNotFound},
		{id: "did:plc:eeeeeeeeeeeeeeeeeeeeeeee", did: "did:plc:eeeeeeeeeeeeeeeeeeeeeeee", handle: syntax.InvalidHandle, handleErr: ErrInvalid},
		{id: "did:plc:ffffffffffffffffffffffff", err: ErrUnavailable},
		{id: "did:plc:gggggggggggggggggggggggg", err: ErrNotFound},
		{id: "none.example.com", err: ErrNotFound},
		{id: "key.example.com", err: ErrMethod},
		{id: "nonsense", err: ErrInvalid},
	} {
		t.Run(string(tc.id), func(t *testing.T) {
			got, err := r.Lookup(ctx, tc.id)
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Fatalf("%v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if got.DID != tc.did || got.Document.ID != tc.did || got.Handle != tc.handle || !errors.Is(got.HandleErr, tc.handleErr) {
				t.Errorf("%s %s %v", got.DID, got.Handle, got.HandleErr)
			}
		})
	}
}

func TestResolutionHasATimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Resolver{PLC: &fakeDirectory{block: make(chan struct{})}}
		begin := time.Now()
		if _, err := r.ResolveDID(ctx, alice); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Error(d)
		}
	})
}
