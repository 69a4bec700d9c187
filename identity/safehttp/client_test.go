package safehttp

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testenv"
)

func TestPublicAddress(t *testing.T) {
	for addr, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "93.184.216.34": true, "223.255.255.255": true,
		"100.63.255.255": true, "100.128.0.0": true, "172.15.255.255": true, "172.32.0.1": true,
		"169.253.0.1": true, "192.167.255.255": true, "198.17.0.1": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "127.0.0.1": false,
		"127.255.255.255": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.170": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.1.1": false,
		"198.18.0.1": false, "198.19.255.255": false, "198.51.100.7": false, "203.0.113.9": false,
		"224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,

		"2606:4700:4700::1111": true, "2001:4860:4860::8888": true, "2a00:1450::1": true, "2003::1": true,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false,
		"fec0::1": false, "ff02::1": false, "100::1": false, "2001::1": false, "2001:2::1": false, "2001:10::1": false,
		"2001:1ff:ffff::1": false, "2001:db8::1": false, "3fff::1": false, "5f00::1": false, "4000::1": false,

		// IPv4 in other clothes.
		"::ffff:1.1.1.1": true, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:10.0.0.1": false,
		"64:ff9b::1.1.1.1": true, "64:ff9b::127.0.0.1": false, "64:ff9b::10.0.0.1": false, "64:ff9b:1::1.1.1.1": false,
		"::127.0.0.1": false, "::1.1.1.1": false, "::ffff:0:1.1.1.1": false,
		"2002:7f00:1::": false, "2002:101:101::": false, "2001:0:7f00:1::": false,
	} {
		if got := PublicAddress(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
	if PublicAddress(netip.Addr{}) {
		t.Error("the zero address")
	}
}

func TestGuardRefuses(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("reached") }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	plain := Config{AllowHTTP: true}
	for name, tc := range map[string]struct {
		cfg Config
		url string
	}{
		"loopback":                {plain, srv.URL},
		"loopback by name":        {plain, "http://localhost:" + port},
		"loopback, https":         {Config{}, "https://127.0.0.1:" + port},
		"IPv6 loopback":           {plain, "http://[::1]:" + port},
		"IPv4-mapped loopback":    {plain, "http://[::ffff:127.0.0.1]:" + port},
		"unspecified address":     {plain, "http://0.0.0.0:" + port},
		"link-local metadata":     {plain, "http://169.254.169.254/latest/meta-data/"},
		"private network":         {plain, "http://10.0.0.1/"},
		"NAT64 of a private one":  {plain, "http://[64:ff9b::10.0.0.1]/"},
		"6to4 of a private one":   {plain, "http://[2002:a00:1::1]/"},
		"plain http":              {Config{}, "http://example.com/"},
		"plain http to a private": {Config{AllowPrivate: true}, srv.URL},
		"file":                    {plain, "file:///etc/passwd"},
		"ftp":                     {plain, "ftp://example.com/"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := NewClient(tc.cfg).Get(tc.url)
			if err == nil {
				resp.Body.Close()
			}
			if !errors.Is(err, ErrAddress) {
				t.Error(err)
			}
		})
	}
}

func TestGuardRedirects(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hits.Add(1) }))
	defer srv.Close()
	for name, target := range map[string]string{
		"loopback":    srv.URL,
		"link-local":  "https://169.254.169.254/",
		"plain http":  "http://public.example.com/",
		"itself":      "https://public.example.com/",
		"file scheme": "file:///etc/passwd",
	} {
		t.Run(name, func(t *testing.T) {
			client := NewClient(Config{})
			g := client.Transport.(*guard)
			real := g.base
			requests := 0
			g.base = nettest.RoundTrip(func(r *http.Request) (*http.Response, error) {
				if requests++; r.URL.Host != "public.example.com" {
					return real.RoundTrip(r)
				}
				return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {target}}, Body: http.NoBody, Request: r}, nil
			})
			resp, err := client.Get("https://public.example.com/")
			if err == nil {
				resp.Body.Close()
			}
			if !errors.Is(err, ErrAddress) || requests > 4 {
				t.Errorf("%v after %d requests", err, requests)
			}
		})
	}
	if hits.Load() > 0 {
		t.Error("the guarded server was reached")
	}
}

// A name that has a public address when it is looked at, and a private one when it
// is dialled.
func TestGuardDNSRebinding(t *testing.T) {
	testenv.NotOnJS(t, "requests need the fetch function, which does not reach a server of the test")
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	resolver := nettest.NameServer(t, "93.184.216.34", "127.0.0.1")
	first, err := resolver.LookupHost(context.Background(), "rebind.example.com")
	if err != nil || len(first) != 1 || first[0] != "93.184.216.34" {
		t.Fatal(first, err)
	}
	client := NewClient(Config{AllowHTTP: true, Resolver: resolver})
	resp, err := client.Get("http://rebind.example.com:" + port)
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	private := NewClient(Config{AllowPrivate: true, AllowHTTP: true, Resolver: nettest.NameServer(t, "127.0.0.1")})
	srv.Config.Handler = http.NotFoundHandler()
	resp, err = private.Get("http://rebind.example.com:" + port)
	if err != nil {
		t.Fatalf("the test's name server does not work: %v", err)
	}
	resp.Body.Close()
}

func TestGuardSizeAndTime(t *testing.T) {
	testenv.NotOnJS(t, "requests need the fetch function, which does not reach a server of the test")
	open := Config{AllowPrivate: true, AllowHTTP: true, MaxBody: 1000, Timeout: time.Minute}
	fetch := func(cfg Config, h http.HandlerFunc) ([]byte, error) {
		srv := httptest.NewServer(h)
		defer srv.Close()
		resp, err := NewClient(cfg).Get(srv.URL)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	}
	if b, err := fetch(open, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1000)) }); err != nil || len(b) != 1000 {
		t.Errorf("body of exactly the limit: %d, %v", len(b), err)
	}
	if b, err := fetch(open, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1001)) }); !errors.Is(err, ErrTooLarge) || len(b) > 1000 {
		t.Errorf("one byte more: %d, %v", len(b), err)
	}
	if _, err := fetch(open, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("endless body: %v", err)
	}
	if _, err := fetch(open, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(make([]byte, 1<<20))
		z.Close()
	}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("compressed bomb: %v", err)
	}
	if _, err := fetch(open, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }); err == nil {
		t.Error("huge header")
	}
	slow := open
	slow.Timeout = 20 * time.Millisecond
	if _, err := fetch(slow, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}); err == nil {
		t.Error("body that never ends")
	}
	if b, err := fetch(Config{AllowPrivate: true, AllowHTTP: true, MaxBody: -1, Timeout: -1, MaxRedirects: -1}, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2<<20)) }); err != nil || len(b) != 2<<20 {
		t.Errorf("no limits: %d, %v", len(b), err)
	}
}

func TestGuardRedirectLimit(t *testing.T) {
	testenv.NotOnJS(t, "requests need the fetch function, which does not reach a server of the test")
	for limit, want := range map[int]int{0: 4, -1: 1, 1: 2} {
		n := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n++
			http.Redirect(w, r, "/", http.StatusFound)
		}))
		_, err := NewClient(Config{AllowPrivate: true, AllowHTTP: true, MaxRedirects: limit}).Get(srv.URL)
		srv.Close()
		if !errors.Is(err, ErrAddress) || n != want {
			t.Errorf("limit %d: %d requests, %v", limit, n, err)
		}
	}
}
