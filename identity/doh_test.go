package identity

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/pdskit/pdskit/internal/nettest"
)

// dnsAnswer packs an answer with records of a name.
func dnsAnswer(t testing.TB, code dnsmessage.RCode, texts ...[]string) []byte {
	t.Helper()
	name := dnsmessage.MustNewName("_atproto.alice.example.com.")
	alias := dnsmessage.MustNewName("elsewhere.example.net.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true, RCode: code},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.CNAMEResource{CNAME: alias},
		}},
	}
	for _, text := range texts {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: alias, Class: dnsmessage.ClassINET}, Body: &dnsmessage.TXTResource{TXT: text},
		})
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestDNSOverHTTPS(t *testing.T) {
	var status int
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("dns"))
		var m dnsmessage.Message
		if err != nil || m.Unpack(query) != nil || len(m.Questions) != 1 || m.Questions[0].Name.String() != "_atproto.alice.example.com." || m.ID != 0 {
			t.Errorf("question %x", query)
		}
		if r.Header.Get("Accept") != "application/dns-message" {
			t.Errorf("accepts %q", r.Header.Get("Accept"))
		}
		w.WriteHeader(status)
		w.Write(body)
	}))
	defer srv.Close()
	lookUp := func(s int, b []byte) ([]string, error) {
		status, body = s, b
		return (&DNSOverHTTPS{URL: srv.URL + "/dns-query", HTTP: srv.Client()}).LookupTXT(t.Context(), "_atproto.alice.example.com.")
	}
	got, err := lookUp(200, dnsAnswer(t, dnsmessage.RCodeSuccess, []string{"did=did:plc:", "abc"}, []string{"v=spf1"}))
	if diff := cmp.Diff([]string{"did=did:plc:abc", "v=spf1"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	long := dnsAnswer(t, dnsmessage.RCodeSuccess, []string{"did=x"})
	long = append(long, make([]byte, maxDNSMessage-len(long))...)
	if got, err := lookUp(200, long); err != nil || len(got) != 1 {
		t.Errorf("an answer of the greatest length: %q, %v", got, err)
	}
	for name, tt := range map[string]struct {
		status  int
		body    []byte
		missing bool
	}{
		"no such name":     {200, dnsAnswer(t, dnsmessage.RCodeNameError), true},
		"no such record":   {200, dnsAnswer(t, dnsmessage.RCodeSuccess), true},
		"server's failure": {200, dnsAnswer(t, dnsmessage.RCodeServerFailure), false},
		"refused":          {200, dnsAnswer(t, dnsmessage.RCodeRefused), false},
		"no answer":        {200, nil, false},
		"a question":       {200, make([]byte, 12), false},
		"HTML":             {200, []byte("<html>hello</html>"), false},
		"status 500":       {500, dnsAnswer(t, dnsmessage.RCodeNameError), false},
		"endless":          {200, make([]byte, maxDNSMessage+10), false},
	} {
		_, err := lookUp(tt.status, tt.body)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if got := errors.Is(dnsError(err), ErrNotFound); got != tt.missing {
			t.Errorf("%s: not found is %t: %v", name, got, err)
		} else if tt.status != 200 && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, d := range map[string]*DNSOverHTTPS{
		"an address that is none": {URL: "://", HTTP: srv.Client()},
		"a server that is away": {HTTP: &http.Client{Transport: nettest.RoundTrip(func(*http.Request) (*http.Response, error) {
			return nil, io.ErrUnexpectedEOF
		})}},
	} {
		if list, err := d.LookupTXT(t.Context(), "_atproto.alice.example.com."); err == nil || errors.Is(dnsError(err), ErrNotFound) {
			t.Errorf("%s: %q, %v", name, list, err)
		}
	}
	if _, err := (&DNSOverHTTPS{}).LookupTXT(t.Context(), strings.Repeat("a", 300)); err == nil {
		t.Error("a name that is too long")
	} else if e := (*net.DNSError)(nil); !errors.As(err, &e) || !e.IsNotFound {
		t.Error(err)
	}
}

// A resolver asks it for handles.
func TestResolveHandleByDNSOverHTTPS(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(dnsAnswer(t, dnsmessage.RCodeSuccess, []string{"did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}))
	}))
	defer srv.Close()
	r := &Resolver{DNS: &DNSOverHTTPS{URL: srv.URL, HTTP: srv.Client()}, HTTP: &http.Client{Transport: nettest.RoundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })}}
	did, err := r.ResolveHandle(t.Context(), "alice.example.com")
	if err != nil || did != "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" {
		t.Error(did, err)
	}
}

func FuzzTXTRecords(f *testing.F) {
	f.Add(dnsAnswer(f, dnsmessage.RCodeSuccess, []string{"did=x", "y"}))
	f.Add(dnsAnswer(f, dnsmessage.RCodeNameError))
	f.Add([]byte{0, 0, 0x84, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 12})
	f.Fuzz(func(t *testing.T, message []byte) {
		list, _, err := txtRecords(message)
		if err != nil && list != nil {
			t.Error("texts with an error")
		}
		n := 0
		for _, text := range list {
			n += len(text)
		}
		if n > 64*len(message)+1 {
			t.Errorf("%d bytes of %d", n, len(message))
		}
	})
}
