package limit

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestClientAddr(t *testing.T) {
	cloud := append(PrivateNetworks(), netip.MustParsePrefix("203.0.113.0/24"))
	for name, c := range map[string]struct {
		trust  Proxies
		remote string
		header []string
		want   string
	}{
		"direct":                        {PrivateNetworks(), "198.51.100.1:5", nil, "198.51.100.1"},
		"mapped":                        {PrivateNetworks(), "[::ffff:198.51.100.1]:5", nil, "198.51.100.1"},
		"stranger forges":               {PrivateNetworks(), "198.51.100.1:5", []string{"192.0.2.9"}, "198.51.100.1"},
		"proxy":                         {PrivateNetworks(), "127.0.0.1:5", []string{"192.0.2.9"}, "192.0.2.9"},
		"proxy, IPv6":                   {PrivateNetworks(), "[::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		"client forges through a proxy": {PrivateNetworks(), "10.0.0.1:5", []string{"10.0.0.9, 192.0.2.9"}, "192.0.2.9"},
		"two proxies":                   {cloud, "10.0.0.1:5", []string{"192.0.2.9, 203.0.113.7"}, "192.0.2.9"},
		"two header lines":              {cloud, "10.0.0.1:5", []string{"192.0.2.9", "203.0.113.7"}, "192.0.2.9"},
		"the second is not trusted":     {PrivateNetworks(), "10.0.0.1:5", []string{"192.0.2.9, 203.0.113.7"}, "203.0.113.7"},
		"ports":                         {PrivateNetworks(), "10.0.0.1:5", []string{"192.0.2.9:1234"}, "192.0.2.9"},
		"IPv6 with port":                {PrivateNetworks(), "10.0.0.1:5", []string{"[2001:db8::1]:80"}, "2001:db8::1"},
		"all trusted":                   {PrivateNetworks(), "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"nonsense":                      {PrivateNetworks(), "10.0.0.1:5", []string{"192.0.2.9, unknown"}, "10.0.0.1"},
		"empty parts":                   {PrivateNetworks(), "10.0.0.1:5", []string{"192.0.2.9,,"}, "10.0.0.1"},
		"empty header":                  {PrivateNetworks(), "10.0.0.1:5", []string{""}, "10.0.0.1"},
		"nobody trusted":                {nil, "127.0.0.1:5", []string{"192.0.2.9"}, "127.0.0.1"},
		"zone":                          {PrivateNetworks(), "[fe80::1%eth0]:5", []string{"192.0.2.9"}, "192.0.2.9"},
		"socket":                        {PrivateNetworks(), "@", []string{"192.0.2.9"}, "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		r.Header["X-Forwarded-For"] = c.header
		if got := c.trust.ClientAddr(r); got.String() != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

func TestHandlerBehindProxies(t *testing.T) {
	var got string
	h := PrivateNetworks().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
	for _, c := range []struct{ remote, forwarded, want string }{
		{"127.0.0.1:5", "2001:db8::1", "[2001:db8::1]:0"},
		{"127.0.0.1:5", "", "127.0.0.1:5"},
		{"198.51.100.1:5", "192.0.2.1", "198.51.100.1:0"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if h.ServeHTTP(nil, r); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
		if r.RemoteAddr != c.remote {
			t.Error("the caller's request was changed")
		}
	}
}

func FuzzClientAddr(f *testing.F) {
	f.Add("192.0.2.1, 10.0.0.1", "10.0.0.1:1")
	f.Add(",,,", "[::1]:1")
	f.Fuzz(func(t *testing.T, header, remote string) {
		r := &http.Request{Header: http.Header{"X-Forwarded-For": {header}}, RemoteAddr: remote}
		a := PrivateNetworks().ClientAddr(r)
		if _, err := netip.ParseAddrPort(remote); (err == nil) != a.IsValid() {
			t.Errorf("%q, %q: %v", header, remote, a)
		}
	})
}

// A long header is as harmless as a short one.
func TestLongForwardedHeader(t *testing.T) {
	r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {strings.Repeat("10.0.0.1,", 100_000) + "10.0.0.2"}}}
	if got := PrivateNetworks().ClientAddr(r); !got.IsValid() {
		t.Error(got)
	}
}
