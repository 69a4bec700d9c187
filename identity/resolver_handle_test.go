package identity

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

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
