package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// names are a DNS of their own.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, _, host string) (list []netip.Addr, err error) {
	host = strings.TrimSuffix(host, ".")
	addrs, ok := n[host]
	if _, parent, _ := strings.Cut(host, "."); !ok {
		addrs, ok = n["*."+parent]
	}
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, a := range addrs {
		if a == "down" {
			return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
		}
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

// expect compares levels and parts of texts, as "level: part".
func expect(t *testing.T, name string, c Check, want ...string) {
	t.Helper()
	r := Run(t.Context(), []Check{c})
	ok := len(r.Findings) == len(want)
	for i := range min(len(want), len(r.Findings)) {
		f := r.Findings[i]
		level, part, _ := strings.Cut(want[i], ": ")
		ok = ok && string(f.Level) == level && strings.Contains(f.Text, part) && (f.Remedy != "") == (f.Level == Warning || f.Level == Problem)
	}
	if !ok {
		t.Errorf("%s: %+v, want %q", name, r.Findings, want)
	}
}

func TestNames(t *testing.T) {
	const host, sub = "pds.site.test", ".pds.site.test"
	mine := func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil }
	for _, tt := range []struct {
		name string
		dns  names
		want []string
	}{
		{"all is well", names{host: {"8.8.8.8"}, "*" + sub: {"8.8.8.8"}}, []string{"ok: this machine", "ok: lead there too"}},
		{"behind a router", names{host: {"9.9.9.9"}, "*" + sub: {"9.9.9.9"}}, []string{"ok: no interface of this machine", "ok: "}},
		{"nothing", names{}, []string{"problem: has no address", "warning: handles there do not resolve"}},
		{"no wildcard", names{host: {"8.8.8.8"}}, []string{"ok: ", "warning: handles there do not resolve"}},
		{"elsewhere", names{host: {"8.8.8.8"}, "*" + sub: {"9.9.9.9"}}, []string{"ok: ", "warning: names below pds.site.test lead to 9.9.9.9"}},
		{"of /etc/hosts", names{host: {"127.0.1.1"}, "*" + sub: {"8.8.8.8"}}, []string{"warning: 127.0.1.1", "warning: "}},
		{"down", names{host: {"down"}}, []string{"problem: cannot be looked up", "warning: "}},
	} {
		expect(t, tt.name, Target{URL: "https://" + host, DNS: tt.dns, Own: mine}.Names(sub), tt.want...)
	}
}

// site is a server with TLS at a name, and a target that reaches it.
func site(t *testing.T, h http.Handler) Target {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	client := s.Client()
	tr := client.Transport.(*http.Transport)
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	return Target{URL: "https://example.com", HTTP: client} // the name of the test's certificate
}

func TestCertificate(t *testing.T) {
	testenv.NotOnJS(t, "certificates are not seen")
	status := http.StatusOK
	target := site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
	resp, err := target.get(t.Context(), "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	end := resp.TLS.PeerCertificates[0].NotAfter
	at := func(d time.Duration) Target {
		x := target
		x.Now = func() time.Time { return end.Add(-d) }
		return x
	}
	expect(t, "good", at(60*24*time.Hour).Certificate(), "ok: (60 days")
	expect(t, "not renewed", at(5*24*time.Hour).Certificate(), "warning: (5 days")
	expect(t, "over", at(-time.Hour).Certificate(), "problem: has ended")
	if r := Run(t.Context(), []Check{target.Certificate()}); !r.Findings[0].Until.Equal(end) {
		t.Errorf("%+v", r)
	}
	status = http.StatusServiceUnavailable
	expect(t, "ill", at(60*24*time.Hour).Certificate(), "ok: ", "problem: status 503")
	strangers := target
	strangers.HTTP = &http.Client{Transport: &http.Transport{DialContext: target.HTTP.Transport.(*http.Transport).DialContext}}
	expect(t, "nobody's", strangers.Certificate(), "problem: authority that nobody knows")
	other := target
	other.URL = "https://other.site.test"
	expect(t, "another name's", other.Certificate(), "problem: not for https://other.site.test")
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	expect(t, "no TLS", Target{URL: "https" + strings.TrimPrefix(plain.URL, "http")}.Certificate(), "problem: does not speak TLS")
	expect(t, "plain", Target{URL: plain.URL}.Certificate(), "warning: not encrypted", "problem: status 404")
	closed := httptest.NewServer(nil)
	closed.Close()
	expect(t, "closed", Target{URL: closed.URL}.Certificate(), "problem: cannot be reached")
}

func TestStream(t *testing.T) {
	var answer http.HandlerFunc
	target := site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	upgrade := func(accept func(key string) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "websocket" || r.URL.Path != "/xrpc/com.atproto.sync.subscribeRepos" {
				http.Error(w, "what?", http.StatusTeapot)
				return
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept(r.Header.Get("Sec-Websocket-Key")))
		}
	}
	answer = upgrade(acceptKey)
	expect(t, "good", target.Stream(), "ok: WebSockets get through")
	answer = upgrade(func(string) string { return "x" })
	expect(t, "nonsense", target.Stream(), "problem: no WebSocket server")
	for status, want := range map[int]string{426: "problem: status 426", 400: "problem: status 400", 200: "problem: status 200", 503: "warning: no room"} {
		answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }
		expect(t, fmt.Sprint(status), target.Stream(), want)
	}
}

// A proxy is found out by what it does to X-Forwarded-For.
func TestForwarded(t *testing.T) {
	key := []byte("a key of the server")
	echo := &Echo{Key: key, Proxies: limit.PrivateNetworks(), Next: http.NotFoundHandler()}
	var proxy func(r *http.Request)
	target := site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "127.0.0.1:1"
		proxy(r)
		echo.ServeHTTP(w, r)
	}))
	for _, tt := range []struct {
		name  string
		proxy func(r *http.Request)
		want  string
	}{
		{"replaces", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "8.8.8.8") }, "ok: came from 8.8.8.8"},
		{"adds", func(r *http.Request) { r.Header["X-Forwarded-For"] = []string{forged + ", 8.8.8.8"} }, "ok: came from 8.8.8.8"},
		{"adds a trusted one", func(r *http.Request) { r.Header["X-Forwarded-For"] = []string{forged + ", 10.0.0.1"} }, "ok: came from 10.0.0.1"},
		{"adds a line", func(r *http.Request) { r.Header.Add("X-Forwarded-For", "8.8.8.8") }, "ok: came from 8.8.8.8"},
		{"drops", func(r *http.Request) { r.Header.Del("X-Forwarded-For") }, "warning: does not tell"},
		{"passes on", func(r *http.Request) {}, "problem: as strangers send it"},
		{"is not trusted", func(r *http.Request) {
			r.RemoteAddr = "8.8.4.4:1"
			r.Header.Set("X-Forwarded-For", "8.8.8.8")
		}, "warning: 8.8.4.4 tells from whom"},
		{"is not there", func(r *http.Request) { r.RemoteAddr = "8.8.4.4:1" }, "ok: no proxy between"},
		{"leads elsewhere", func(r *http.Request) { r.URL.Path = "/other" }, "problem: another server"},
	} {
		proxy = tt.proxy
		expect(t, tt.name, target.Forwarded(key), tt.want)
	}
	proxy = func(r *http.Request) {}
	direct := target
	direct.Direct = true
	expect(t, "own TLS", direct.Forwarded(key), "ok: no proxy between")
	expect(t, "another key", target.Forwarded([]byte("another server's key")), "problem: another server")
	late := target
	late.Now = func() time.Time { return time.Now().Add(-2 * time.Minute) }
	expect(t, "an old question", late.Forwarded(key), "problem: another server")
}

// Strangers do not find out that there is an Echo, and learn nothing.
func TestEchoForStrangers(t *testing.T) {
	e := &Echo{Key: []byte("key"), Next: http.NotFoundHandler()}
	for _, token := range []string{"", "1", ".", "1.2", "9999999999." + mac([]byte("key"), "question", "9999999999"), "x." + mac([]byte("key"), "question", "x")} {
		r := httptest.NewRequest("GET", EchoPath, nil)
		r.Header.Set(echoHeader, token)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("%q: %d %s", token, w.Code, w.Body)
		}
	}
	none := &Echo{Next: http.NotFoundHandler()}
	at := fmt.Sprint(time.Now().Unix())
	r := httptest.NewRequest("GET", EchoPath, nil)
	r.Header.Set(echoHeader, at+"."+mac(nil, "question", at))
	w := httptest.NewRecorder()
	if none.ServeHTTP(w, r); w.Code != http.StatusNotFound {
		t.Error("an Echo without a key answers")
	}
}
