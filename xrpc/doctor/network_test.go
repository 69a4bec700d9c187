package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

func TestClock(t *testing.T) {
	off := time.Duration(0)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-off).UTC().Format(http.TimeFormat))
	}))
	watch := func(servers ...string) *timecheck.Watch { return &timecheck.Watch{Servers: servers} }
	expect(t, "right", Clock(watch(s.URL)), "ok: 1 of 1 servers")
	off = time.Minute
	expect(t, "a minute", Clock(watch(s.URL)), "warning: off by")
	off = time.Hour
	expect(t, "an hour", Clock(watch(s.URL)), "problem: nothing is signed")
	s.Close()
	expect(t, "alone", Clock(watch(s.URL)), "warning: no server told the time")
	expect(t, "without", Clock(watch()), "skipped: ")
}

func TestRelays(t *testing.T) {
	now := time.Now().UnixMicro()
	newest := func(context.Context) (int64, error) { return now, nil }
	answer := func(status int, v any) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("hostname") != "pds.site.test" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	host := func(status string, seq int64) map[string]any {
		return map[string]any{"hostname": "pds.site.test", "status": status, "seq": seq, "accountCount": 3}
	}
	failed := func(name string) map[string]string { return map[string]string{"error": name, "message": "no"} }
	for _, tt := range []struct {
		relay string
		want  string
	}{
		{answer(200, host("active", now-1e6)), "ok: knows 3 accounts"},
		{answer(200, host("active", -1)), "ok: "},
		{answer(200, map[string]string{"hostname": "pds.site.test"}), "ok: it follows"},
		{answer(200, host("active", now-3600*1e6)), "warning: is 1h0m0s behind"},
		{answer(200, host("active", now+1)), "problem: not given yet"},
		{answer(200, host("banned", now)), "problem: banned"},
		{answer(200, host("throttled", now)), "warning: slows"},
		{answer(200, host("odd\u202e", now)), "warning: says"},
		{answer(400, failed("HostNotFound")), "problem: does not know"},
		{answer(404, failed("HostNotFound")), "problem: does not know"},
		{answer(404, failed("XRPCNotSupported")), "skipped: "},
		{answer(501, failed("MethodNotImplemented")), "skipped: "},
		{answer(500, failed("InternalServerError")), "warning: does not answer"},
		{"http://127.0.0.1:1", "warning: does not answer"},
	} {
		expect(t, tt.want, Relays(nil, "pds.site.test", []string{tt.relay}, newest), tt.want)
	}
	expect(t, "none", Relays(nil, "pds.site.test", nil, newest), "warning: no relay")
	broken := func(context.Context) (int64, error) { return 0, errors.New("broken") }
	expect(t, "broken", Relays(nil, "pds.site.test", []string{"http://127.0.0.1:1"}, broken), "problem: broken")
}

// A relay has some seconds to come back to a server that has just been started. What is written
// while it is asked does not make it one that knows too much.
func TestRelayComesBack(t *testing.T) {
	for _, tt := range []struct {
		away int // for how many questions
		took time.Duration
		want string
	}{{0, 0, "ok: "}, {1, 2 * time.Second, "ok: "}, {3, 6 * time.Second, "ok: "}, {99, 14 * time.Second, "problem: offline"}} {
		synctest.Test(t, func(t *testing.T) {
			asked, seq := 0, time.Now().UnixMicro()
			relay := &http.Client{Transport: nettest.RoundTrip(func(r *http.Request) (*http.Response, error) {
				status := "active"
				if asked++; asked <= tt.away {
					status = "offline"
				}
				seq++
				body := fmt.Sprintf(`{"hostname":"pds.site.test","status":%q,"seq":%d}`, status, seq)
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			})}
			newest := func(context.Context) (int64, error) { return seq, nil }
			begin := time.Now()
			expect(t, tt.want, Relays(relay, "pds.site.test", []string{"relay.test"}, newest), tt.want)
			if took := time.Since(begin); took != tt.took {
				t.Errorf("away %d times: %s", tt.away, took)
			}
		})
	}
}

// list are accounts.
func list(all ...Account) Accounts {
	return func(context.Context) iter.Seq2[Account, error] {
		return func(yield func(Account, error) bool) {
			for _, a := range all {
				if !yield(a, nil) {
					return
				}
			}
		}
	}
}

// txt are TXT records by name.
type txt map[string]string

func (x txt) LookupTXT(_ context.Context, name string) ([]string, error) {
	if v, ok := x[name]; ok {
		return []string{v}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func TestIdentities(t *testing.T) {
	plc, err := plctest.New(plctest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	directory := httptest.NewServer(plc)
	defer directory.Close()
	client := &identity.PLCClient{URL: directory.URL}
	key := func() *crypto.PrivateKey {
		k, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rotation, dns := key(), txt{}
	make := func(name, pds string) Account {
		k := key()
		handle := syntax.Handle(name + ".site.test")
		op := identity.NewPLCOperation(handle, pds, k.PublicKey(), rotation.PublicKey())
		if err := op.Sign(t.Context(), rotation); err != nil {
			t.Fatal(err)
		}
		did, err := op.DID()
		if err == nil {
			err = client.Submit(t.Context(), did, op)
		}
		if err != nil {
			t.Fatal(err)
		}
		dns["_atproto."+string(handle)+"."] = "did=" + string(did)
		return Account{did, handle, k.PublicKey()}
	}
	const here = "https://pds.site.test"
	good, moved, lost, renamed, resigned := make("good", here), make("moved", "https://other.site.test"), make("lost", here), make("renamed", here), make("resigned", here)
	delete(dns, "_atproto.lost.site.test.")
	renamed.Handle = "new.site.test"
	resigned.Key = key().PublicKey()
	nobody := Account{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "nobody.site.test"}
	down := &http.Client{Transport: nettest.RoundTrip(func(*http.Request) (*http.Response, error) { return nil, &net.DNSError{IsNotFound: true} })}
	resolver := func() *identity.Resolver {
		return &identity.Resolver{PLC: client, DNS: dns, HTTP: down, Development: true}
	}
	target := Target{URL: here}
	check := func(most int, all ...Account) Check { return target.Identities(list(all...), resolver, most) }
	expect(t, "good", check(5, good), "ok: of 1 accounts, 1 have")
	expect(t, "all", check(9, good, moved, lost, renamed, resigned, nobody), "ok: of 6 accounts, 1 have",
		"problem: names another server, https://other.site.test", "warning: does not lead to the account", "warning: has the handle renamed.site.test",
		"problem: another signing key", "problem: not known to the network")
	local := Target{URL: here, Development: true}
	expect(t, "development", local.Identities(list(good, lost, moved), resolver, 5), "ok: of 3 accounts, 2 have", "problem: names another server")
	expect(t, "more", check(1, good, moved), "ok: not looked at")
	expect(t, "none", check(1), "skipped: no accounts")
	directory.Close()
	expect(t, "no directory", check(1, good), "warning: cannot be resolved")
}

func TestAppView(t *testing.T) {
	alice, bob := Account{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "alice.site.test"}, Account{DID: "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", Handle: "bob.site.test"}
	profile := func(a Account, handle string) string { return fmt.Sprintf(`{"did":%q,"handle":%q}`, a.DID, handle) }
	answer := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.URL.Query()["actors"]) != 2 {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, tt := range []struct {
		url  string
		want []string
	}{
		{answer(200, `{"profiles":[`+profile(alice, "Alice.site.test")+","+profile(bob, "bob.site.test")+`]}`), []string{"ok: (2)"}},
		{answer(200, `{"profiles":[`+profile(alice, "handle.invalid")+`]}`), []string{"warning: does not know bob.site.test", "warning: alice.site.test (as handle.invalid)"}},
		{answer(200, `{"profiles":null}`), []string{"warning: alice.site.test, bob.site.test"}},
		{answer(200, `[]`), []string{"warning: does not answer"}},
		{answer(401, `{"error":"AuthMissing"}`), []string{"skipped: sign-in"}},
		{answer(500, `{}`), []string{"warning: does not answer"}},
		{"", []string{"skipped: no AppView"}},
	} {
		expect(t, tt.want[0], AppView(nil, tt.url, list(alice, bob)), tt.want...)
	}
	expect(t, "nobody", AppView(nil, "http://127.0.0.1:1", list()), "skipped: no accounts")
}
