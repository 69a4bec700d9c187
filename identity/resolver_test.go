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
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/platform"
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

func TestResolveHandle(t *testing.T) {
	dns := fakeDNS{
		"_atproto.dns.example.com.":        {"did=" + string(alice)},
		"_atproto.mixed.example.com.":      {"v=spf1", "did=" + string(alice), "DID=x", " did=x"},
		"_atproto.two.example.com.":        {"did=" + string(alice), "did=" + string(bob)},
		"_atproto.same.example.com.":       {"did=" + string(alice), "did=" + string(alice)},
		"_atproto.both.example.com.":       {"did=" + string(alice)},
		"_atproto.broken.example.com.":     {"did=nonsense"},
		"_atproto.other.example.com.":      {"v=spf1"},
		"_atproto.fail.example.com.":       {"!"},
		"_atproto.fail.web.example.com.":   {"!"},
		"_atproto.x.down.example.com.":     {"did=" + string(alice)},
		"_atproto.fail.nx.example.com.":    {"!"},
		"_atproto.two.web.example.com.":    {"did=" + string(alice), "did=" + string(bob)},
		"_atproto.broken.web.example.com.": {"did="},
	}
	client := internet(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			io.WriteString(w, string(bob))
			return
		}
		if r.URL.Path != "/.well-known/atproto-did" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		switch {
		case strings.HasSuffix(r.Host, "web.example.com"), r.Host == "both.example.com":
			io.WriteString(w, "\r\n "+string(bob)+"\n")
		case r.Host == "html.example.com":
			io.WriteString(w, "<!doctype html><title>Hello</title>")
		case r.Host == "lines.example.com":
			io.WriteString(w, string(bob)+"\n"+string(alice)+"\n")
		case r.Host == "huge.example.com":
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		case r.Host == "redirect.example.com":
			http.Redirect(w, r, "https://else.example.com/elsewhere", http.StatusMovedPermanently)
		case r.Host == "error.example.com":
			w.WriteHeader(http.StatusBadGateway)
		case r.Host == "busy.example.com":
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			http.NotFound(w, r)
		}
	})
	r := &Resolver{DNS: dns, HTTP: client, Timeout: time.Minute}
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + strings.Repeat("d", 52) + ".web.example.com"
	for handle, want := range map[syntax.Handle]any{
		"dns.example.com":        alice,
		"DNS.Example.COM":        alice,
		"mixed.example.com":      alice,
		"two.example.com":        ErrAmbiguous,
		"same.example.com":       ErrAmbiguous,
		"two.web.example.com":    ErrAmbiguous, // HTTPS does not overrule it
		"both.example.com":       alice,        // DNS wins
		"web.example.com":        bob,
		"broken.example.com":     ErrNotFound,
		"broken.web.example.com": bob,
		"other.example.com":      ErrNotFound,
		"none.example.com":       ErrNotFound,
		"fail.example.com":       ErrUnavailable,
		"fail.web.example.com":   bob,
		"fail.nx.example.com":    ErrUnavailable,
		"x.down.example.com":     alice,
		"y.down.example.com":     ErrUnavailable,
		"y.nx.example.com":       ErrNotFound,
		"html.example.com":       ErrNotFound,
		"lines.example.com":      ErrNotFound,
		"huge.example.com":       ErrNotFound,
		"redirect.example.com":   bob,
		"error.example.com":      ErrUnavailable,
		"busy.example.com":       ErrUnavailable,
		syntax.Handle(long):      bob, // too long a name for DNS
		"handle.invalid":         ErrInvalid,
		"alice.test":             ErrInvalid,
		"laptop.local":           ErrInvalid,
		"x.onion":                ErrInvalid,
		"localhost":              ErrInvalid,
		"127.0.0.1":              ErrInvalid,
		"a.example.com/x":        ErrInvalid,
		"a.example.com:443":      ErrInvalid,
		"user@a.example.com":     ErrInvalid,
		"":                       ErrInvalid,
	} {
		t.Run(string(handle), func(t *testing.T) {
			t.Parallel()
			did, err := r.ResolveHandle(ctx, handle)
			if wantErr, ok := want.(error); ok {
				if !errors.Is(err, wantErr) || did != "" {
					t.Errorf("%q, %v; want %v", did, err, want)
				}
				for _, other := range []error{ErrNotFound, ErrUnavailable} {
					if other != wantErr && errors.Is(err, other) {
						t.Errorf("the error is %v as well", other)
					}
				}
			} else if err != nil || did != want {
				t.Errorf("%q, %v; want %v", did, err, want)
			}
		})
	}
}

// DNS that never answers costs its own time limit, not the answer of HTTPS.
func TestHandleWithHangingDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Resolver{DNS: fakeDNS{"_atproto.a.example.com.": {"hang"}}, HTTP: &http.Client{Transport: nettest.RoundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(bob))), Request: r}, nil
		})}}
		begin := time.Now()
		if did, err := r.ResolveHandle(ctx, "a.example.com"); err != nil || did != bob {
			t.Error(did, err)
		}
		if d := time.Since(begin); d != dnsTimeout {
			t.Error(d)
		}
	})
}

// When DNS has answered, nobody waits for a web server that hangs.
func TestHandleWithHangingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Resolver{DNS: fakeDNS{"_atproto.a.example.com.": {"did=" + string(alice)}}, HTTP: &http.Client{Transport: nettest.RoundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}
		begin := time.Now()
		if did, err := r.ResolveHandle(ctx, "a.example.com"); err != nil || did != alice {
			t.Error(did, err)
		}
		if d := time.Since(begin); d != 0 {
			t.Error(d)
		}
	})
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

func TestCache(t *testing.T) {
	now := start
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "one.example.com")}}
	r := &Resolver{PLC: dir, TTL: time.Hour, StaleFor: 2 * time.Hour, NegativeTTL: time.Minute, Now: func() time.Time { return now }}
	want := func(handle syntax.Handle, wantErr error, calls int) {
		t.Helper()
		d, err := r.ResolveDID(ctx, alice)
		if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err == nil {
			if h, _ := d.Handle(); h != handle {
				t.Errorf("%s, want %s", h, handle)
			}
		}
		dir.wantCalls(t, calls)
	}
	want("one.example.com", nil, 1)
	dir.set(alice, claims(alice, "two.example.com"))
	now = now.Add(time.Hour - 1)
	want("one.example.com", nil, 1) // fresh
	now = now.Add(1)
	want("two.example.com", nil, 2) // expired
	dir.set(alice, nil)
	now = now.Add(time.Hour)
	want("two.example.com", nil, 3) // stale while the directory is down
	want("two.example.com", nil, 3) // which is not asked again at once
	now = now.Add(time.Minute)
	want("two.example.com", nil, 4)
	now = now.Add(2*time.Hour - time.Minute)
	want("", ErrUnavailable, 5) // stale for too long
	want("", ErrUnavailable, 5) // failures are remembered
	now = now.Add(time.Minute)
	dir.set(alice, claims(alice, "three.example.com"))
	want("three.example.com", nil, 6) // and forgotten
	dir.set(alice, claims(alice, "four.example.com"))
	r.Purge(syntax.AtIdentifier(alice))
	want("four.example.com", nil, 7)
	delete(dir.docs, alice)
	now = now.Add(time.Hour)
	want("", ErrNotFound, 8) // a definite answer ends staleness
	r.Purge(syntax.AtIdentifier(alice))
	want("", ErrNotFound, 9)
}

// By default, an answer is kept for an hour, and up to a day while the directory does not answer;
// that there is none, for 30 seconds.
func TestCacheByDefault(t *testing.T) {
	now := start
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "one.example.com")}}
	r := &Resolver{PLC: dir, Now: func() time.Time { return now }}
	want := func(wantErr error, calls int) {
		t.Helper()
		if _, err := r.ResolveDID(ctx, alice); !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Errorf("%v later: %v, want %v", now.Sub(start), err, wantErr)
		}
		dir.wantCalls(t, calls)
	}
	want(nil, 1)
	now = start.Add(time.Hour - 1)
	want(nil, 1)
	dir.set(alice, nil)
	now = start.Add(time.Hour)
	want(nil, 2)
	now = start.Add(24*time.Hour - 1)
	want(nil, 3)
	now = start.Add(24 * time.Hour)
	want(nil, 3) // it was not asked for so long
	now = now.Add(30 * time.Second)
	want(ErrUnavailable, 4)
	now = now.Add(30*time.Second - 1)
	want(ErrUnavailable, 4)
	now = now.Add(1)
	want(ErrUnavailable, 5)
}

// By default, 10,000 DIDs are kept.
func TestSizeOfTheCacheByDefault(t *testing.T) {
	r := &Resolver{PLC: &fakeDirectory{docs: map[syntax.DID]*Document{}}}
	const most = 10_000
	for i := range most + 100 {
		digits := strings.Map(func(c rune) rune { return c - '0' + 'a' }, fmt.Sprintf("%024d", i))
		if _, err := r.ResolveDID(ctx, syntax.DID("did:plc:"+digits)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n, _, _ := r.dids.Stats(); n != platform.Default(most, 1000) {
		t.Errorf("%d are kept", n)
	}
}

func TestPurgeOfADIDPurgesItsHandle(t *testing.T) {
	dns := fakeDNS{"_atproto.alice.example.com.": {"did=" + string(alice)}}
	r := &Resolver{PLC: &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "alice.example.com")}}, DNS: dns, HTTP: internet(t, http.NotFound), Timeout: time.Minute}
	if id, err := r.Lookup(ctx, syntax.AtIdentifier(alice)); err != nil || id.Handle != "alice.example.com" {
		t.Fatal(id, err)
	}
	delete(dns, "_atproto.alice.example.com.")
	if id, err := r.Lookup(ctx, "alice.example.com"); err != nil || id.Handle != "alice.example.com" {
		t.Fatal("not cached", id, err)
	}
	r.Purge(syntax.AtIdentifier(alice))
	if id, err := r.Lookup(ctx, syntax.AtIdentifier(alice)); err != nil || id.Handle != syntax.InvalidHandle {
		t.Error(id, err)
	}
	dns["_atproto.alice.example.com."] = []string{"did=" + string(alice)}
	r.Purge("Alice.example.com")
	if did, err := r.ResolveHandle(ctx, "alice.example.com"); err != nil || did != alice {
		t.Error(did, err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{}}
	r := &Resolver{PLC: dir, MaxEntries: 10}
	did := func(i int) syntax.DID {
		return syntax.DID("did:plc:" + strings.Repeat("a", 22) + string([]byte{'a' + byte(i/26), 'a' + byte(i%26)}))
	}
	resolve := func(i int) {
		t.Helper()
		_, _ = r.ResolveDID(ctx, did(i))
	}
	for i := range 600 { // half of them do not exist
		if i%2 == 0 {
			dir.docs[did(i)] = claims(did(i))
		}
		resolve(i)
		if i > 0 {
			resolve(0) // often used: stays
		}
	}
	if n, cost, _ := r.dids.Stats(); n != 10 || cost != 10 {
		t.Errorf("%d entries of cost %d", n, cost)
	}
	dir.wantCalls(t, 600)
	big := claims(did(601), strings.Repeat("x", 5*4096))
	dir.docs[did(601)] = big
	resolve(601)
	if n, cost, _ := r.dids.Stats(); n != 5 || cost != 10 {
		t.Errorf("%d entries of cost %d beside a large document", n-1, cost)
	}
	dir.docs[did(602)] = claims(did(602), strings.Repeat("x", 100*4096))
	resolve(602)
	n, _, loads := r.dids.Stats()
	if n != 1 {
		t.Errorf("%d entries beside a huge document", n-1)
	}
	if loads != 0 {
		t.Error("loads are left")
	}
}

func TestConcurrentLookupsShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "one.example.com")}, block: make(chan struct{})}
		r := &Resolver{PLC: dir}
		var wg sync.WaitGroup
		var ok atomic.Int64
		for range 50 {
			wg.Go(func() {
				if _, err := r.ResolveDID(ctx, alice); err == nil {
					ok.Add(1)
				}
			})
		}
		synctest.Wait()
		cancelled, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			if _, err := r.ResolveDID(cancelled, alice); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
				t.Errorf("given up: %v", err)
			}
		})
		synctest.Wait()
		cancel() // one who gives up does not spoil it for the others
		synctest.Wait()
		close(dir.block)
		wg.Wait()
		dir.wantCalls(t, 1)
		if ok.Load() != 50 {
			t.Errorf("%d of 50 succeeded", ok.Load())
		}
	})
}

func TestPurgeDuringAResolution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "old.example.com")}, block: make(chan struct{})}
		r := &Resolver{PLC: dir}
		get := func() string {
			d, err := r.ResolveDID(ctx, alice)
			if err != nil {
				t.Error(err)
				return ""
			}
			h, _ := d.Handle()
			return string(h)
		}
		var wg sync.WaitGroup
		wg.Go(func() { get() })
		synctest.Wait() // the old document is on its way
		dir.set(alice, claims(alice, "new.example.com"))
		r.Purge(syntax.AtIdentifier(alice))
		wg.Go(func() {
			if h := get(); h != "new.example.com" {
				t.Errorf("after the purge: %s", h)
			}
		})
		synctest.Wait()
		close(dir.block)
		wg.Wait()
		if h := get(); h != "new.example.com" {
			t.Errorf("cached: %s", h)
		}
		dir.wantCalls(t, 2)
	})
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

func BenchmarkLookupCached(b *testing.B) {
	r := &Resolver{PLC: &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "alice.example.com")}},
		DNS: fakeDNS{"_atproto.alice.example.com.": {"did=" + string(alice)}}, HTTP: &http.Client{Transport: nettest.RoundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("offline") })}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Lookup(ctx, "alice.example.com"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
