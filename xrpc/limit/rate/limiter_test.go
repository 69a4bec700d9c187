package rate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// clock is a clock that tests set.
type clock struct{ now time.Time }

func testLimiter(cfg Config) (*Limiter, *clock) {
	c := &clock{time.Unix(1_700_000_000, 0)}
	cfg.Now = func() time.Time { return c.now }
	return New(cfg), c
}

func request(nsid, from string, did syntax.DID) *xrpc.Request {
	r := &xrpc.Request{Request: httptest.NewRequest("POST", "/xrpc/"+nsid, nil), NSID: syntax.NSID(nsid)}
	r.RemoteAddr = from
	if did != "" {
		r.Principal = auth.Principal{Role: auth.User, DID: did}
	}
	return r
}

// call does what a server does.
func call(l *Limiter, r *xrpc.Request) (http.Header, error) {
	w := &httptest.ResponseRecorder{HeaderMap: r.AnswerHeader()}
	if err := l.Admit(w, r); err != nil {
		return w.Header(), err
	}
	return w.Header(), l.Limit(w, r)
}

// count calls until it is refused.
func count(t *testing.T, l *Limiter, make func() *xrpc.Request) int {
	t.Helper()
	for n := range 20_000 {
		if _, err := call(l, make()); err != nil {
			if !errors.Is(err, &xrpc.Error{Status: 429, Name: "RateLimitExceeded"}) {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("never refused")
	return 0
}

func TestAllowances(t *testing.T) {
	for nsid, want := range map[string]int{
		"com.atproto.repo.getRecord":                        3000,
		"com.atproto.sync.getRepo":                          6000,
		"com.atproto.server.createAccount":                  100,
		"com.atproto.server.deleteAccount":                  50,
		"com.atproto.server.resetPassword":                  50,
		"com.atproto.server.requestPasswordReset":           15,
		"com.atproto.server.requestAccountDelete":           5,
		"com.atproto.server.requestEmailConfirmation":       5,
		"com.atproto.server.requestEmailUpdate":             5,
		"com.atproto.identity.updateHandle":                 10,
		"com.atproto.identity.requestPlcOperationSignature": 5,
		"com.atproto.repo.createRecord":                     1666,
		"com.atproto.repo.putRecord":                        2500,
		"com.atproto.repo.uploadBlob":                       1000,
	} {
		l, _ := testLimiter(Config{})
		if got := count(t, l, func() *xrpc.Request { return request(nsid, "192.0.2.1:4", "did:plc:a") }); got != want {
			t.Errorf("%s: %d calls, want %d", nsid, got, want)
		}
	}
}

func TestDeletesCountOnce(t *testing.T) {
	l, _ := testLimiter(Config{Bypass: nil})
	n := 0
	// From many addresses, so that only the account's bucket counts.
	got := count(t, l, func() *xrpc.Request {
		n++
		return request("com.atproto.repo.deleteRecord", netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}).String()+":1", "did:plc:a")
	})
	if got != 5000 {
		t.Errorf("%d deletes", got)
	}
}

func TestDayLimits(t *testing.T) {
	l, c := testLimiter(Config{})
	n := 0
	for range 24 * 12 {
		c.now = c.now.Add(5 * time.Minute)
		for range 10 {
			if _, err := call(l, request("com.atproto.identity.updateHandle", "192.0.2.1:4", "did:plc:a")); err != nil {
				break
			}
			n++
		}
	}
	if n != 50 {
		t.Errorf("%d changes of handle in a day", n)
	}
}

func TestHeaders(t *testing.T) {
	l, c := testLimiter(Config{})
	h, err := call(l, request("com.atproto.repo.getRecord", "192.0.2.1:4", ""))
	if err != nil {
		t.Fatal(err)
	}
	reset := strconv.FormatInt(c.now.Add(5*time.Minute).Unix(), 10)
	want := http.Header{"Ratelimit-Limit": {"3000"}, "Ratelimit-Remaining": {"2999"}, "Ratelimit-Reset": {reset}, "Ratelimit-Policy": {"3000;w=300"}}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
	// The method's bucket is tighter than that for all.
	if h, _ = call(l, request("com.atproto.server.resetPassword", "192.0.2.1:4", "")); h.Get("RateLimit-Policy") != "50;w=300" {
		t.Errorf("%v", h)
	}
	// And here it is not.
	for range 2990 {
		call(l, request("com.atproto.repo.getRecord", "192.0.2.1:4", ""))
	}
	if h, _ = call(l, request("com.atproto.server.resetPassword", "192.0.2.1:4", "")); h.Get("RateLimit-Policy") != "3000;w=300" {
		t.Errorf("%v", h)
	}
	for range 10 {
		_, err = call(l, request("com.atproto.repo.getRecord", "192.0.2.1:4", ""))
	}
	var e *xrpc.Error
	if !errors.As(err, &e) || e.Header.Get("Retry-After") != "301" || e.Header.Get("RateLimit-Remaining") != "0" || e.Header.Get("RateLimit-Reset") != reset {
		t.Errorf("%v", err)
	}
}

// try tries a password and tells whether it was let through. It is right or not.
func try(l *Limiter, nsid, from, account string, right bool) (http.Header, error) {
	r := request(nsid, from, "")
	h, err := call(l, r)
	if err != nil {
		return h, err
	}
	done, err := l.Password(r, account)
	if err == nil {
		done(right)
	}
	return h, err
}

const createSession, deleteAccount = "com.atproto.server.createSession", "com.atproto.server.deleteAccount"

func TestGuessesFromOneNetwork(t *testing.T) {
	l, c := testLimiter(Config{})
	for i := range 30 {
		// The method is no way around it.
		h, err := try(l, []string{createSession, createSession, deleteAccount}[i%3], "192.0.2.1:4", "did:plc:a", false)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Get("RateLimit-Remaining"); got != strconv.Itoa(29-i) {
			t.Fatalf("%s left after %d", got, i+1)
		}
	}
	for _, nsid := range []string{createSession, deleteAccount} {
		if _, err := try(l, nsid, "192.0.2.1:4", "did:plc:a", true); !errors.Is(err, &xrpc.Error{Status: 429}) {
			t.Errorf("a 31st attempt by %s: %v", nsid, err)
		}
	}
	if _, err := try(l, createSession, "192.0.2.1:4", "did:plc:b", false); err != nil {
		t.Errorf("another account: %v", err)
	}
	if _, err := try(l, createSession, "192.0.2.2:4", "did:plc:a", true); err != nil {
		t.Errorf("the owner, from another address: %v", err)
	}
	n := 30
	for range 300 {
		c.now = c.now.Add(4 * time.Minute)
		if _, err := try(l, createSession, "192.0.2.1:4", "did:plc:a", false); err == nil {
			n++
		}
	}
	if n != 300 {
		t.Errorf("%d attempts in a day", n)
	}
}

// Many networks together do not guess faster than the limit of the account, and do not lock the
// owner out of the network from which he logged in before.
func TestGuessesFromManyNetworks(t *testing.T) {
	l, c := testLimiter(Config{})
	const home = "198.51.100.1:1"
	if _, err := try(l, createSession, home, "did:plc:a", true); err != nil {
		t.Fatal(err)
	}
	network := 0
	botnet := func(right bool) error {
		network++
		_, err := try(l, createSession, netip.AddrFrom4([4]byte{10, 0, byte(network >> 8), byte(network)}).String()+":1", "did:plc:a", right)
		return err
	}
	n := 0
	for botnet(false) == nil {
		n++
	}
	if n != 300 {
		t.Errorf("%d guesses in an hour", n)
	}
	if err := botnet(true); err == nil {
		t.Error("the right password is let through when the account has no tries left: it can be told from a wrong one")
	}
	for range 5 {
		if _, err := try(l, createSession, home, "did:plc:a", true); err != nil {
			t.Errorf("the owner at home: %v", err)
		}
	}
	c.now = c.now.Add(time.Hour)
	for range 1000 { // logins that are right are not counted
		if err := botnet(true); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGuessesOfTheAdministrator(t *testing.T) {
	l, _ := testLimiter(Config{})
	admin := func(from string, right bool) error {
		return l.Admin(request("com.atproto.admin.getInviteCodes", from, ""), right)
	}
	for range 1000 {
		if err := admin("192.0.2.1:1", true); err != nil {
			t.Fatal(err)
		}
	}
	for range 30 {
		if err := admin("192.0.2.9:1", false); err != nil {
			t.Fatal(err)
		}
	}
	for _, right := range []bool{false, true} {
		if err := admin("192.0.2.9:1", right); !errors.Is(err, &xrpc.Error{Status: 429}) {
			t.Errorf("a 31st login (right: %v): %v", right, err)
		}
	}
	n := 30
	for i := range 1000 {
		if admin(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()+":1", false) == nil {
			n++
		}
	}
	if n != 300 {
		t.Errorf("%d guesses from many networks", n)
	}
	for from, ok := range map[string]bool{"192.0.2.1:1": true, "127.0.0.1:1": true, "[::1]:1": true, "203.0.113.1:1": false} {
		if err := admin(from, true); (err == nil) != ok {
			t.Errorf("the administrator from %s: %v", from, err)
		}
	}
}

func TestApplyWritesCountsEachWrite(t *testing.T) {
	l, _ := testLimiter(Config{})
	r := request("com.atproto.repo.applyWrites", "192.0.2.1:4", "did:plc:a")
	if err := l.Limit(httptest.NewRecorder(), r); err != nil {
		t.Fatal(err)
	}
	if err := l.Writes(r, 1, 1, 1); err != nil {
		t.Fatal(err)
	}
	left := func() int {
		return l.writes.take(l.hash(nil, "did:plc:a"), 0, l.cfg.Now()).left
	}
	if got := left(); got != 5000-6 || r.AnswerHeader().Get("RateLimit-Remaining") != strconv.Itoa(got) {
		t.Errorf("%d points left, the answer says %s", got, r.AnswerHeader().Get("RateLimit-Remaining"))
	}
	for range 8 {
		if err := l.Writes(r, 200, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	// Of a batch that is too large, nothing is counted.
	if err := l.Writes(r, 65, 0, 0); !errors.Is(err, &xrpc.Error{Status: 429}) || left() != 194 {
		t.Errorf("%v, %d points left", err, left())
	}
	if err := l.Writes(r, 64, 1, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Writes(r, 0, 0, 1); !errors.Is(err, &xrpc.Error{Status: 429}) {
		t.Errorf("%v", err)
	}
	if _, err := call(l, request("com.atproto.repo.createRecord", "192.0.2.1:4", "did:plc:a")); err == nil {
		t.Error("createRecord does not share the bucket")
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:9", true},
		{"[2001:db8::1]:1", "[2001:db8::ffff:1]:1", true}, // one customer's network
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::1%eth1]:1", true},
	} {
		a, b := address(request("a.b.c", c.a, "").Request), address(request("a.b.c", c.b, "").Request)
		if (a == b) != c.same {
			t.Errorf("%s is %s, %s is %s", c.a, a, c.b, b)
		}
	}
}

func TestBypass(t *testing.T) {
	l, _ := testLimiter(Config{BypassKey: "sesame", Bypass: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	reset := func(from, key string) error {
		r := request("com.atproto.server.resetPassword", from, "")
		if key != "" {
			r.Header.Set("x-ratelimit-bypass", key)
		}
		_, err := call(l, r)
		return err
	}
	for range 50 {
		if err := reset("192.0.2.1:1", ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		from, key string
		pass      bool
	}{
		{"192.0.2.1:1", "", false},
		{"192.0.2.1:1", "wrong", false},
		{"192.0.2.1:1", "sesame", true},
		{"198.51.100.77:1", "", true},
		{"[::ffff:198.51.100.77]:1", "", true},
	} {
		if err := reset(c.from, c.key); (err == nil) != c.pass {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Whoever moves here brings all blobs at once.
func TestUploadsOfMovers(t *testing.T) {
	const mover, resident = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	l, c := testLimiter(Config{Moving: func(_ context.Context, account string) bool { return account == mover }})
	upload := func(did syntax.DID) func() *xrpc.Request {
		return func() *xrpc.Request {
			c.now = c.now.Add(time.Second) // for the bucket of all
			return request("com.atproto.repo.uploadBlob", "192.0.2.1:1", did)
		}
	}
	if n := count(t, l, upload(resident)); n != 1000 {
		t.Errorf("%d uploads", n)
	}
	for range 5000 {
		if _, err := call(l, upload(mover)()); err != nil {
			t.Fatal(err)
		}
	}
	l.cfg.Moving = nil // it is here
	if n := count(t, l, upload(mover)); n != 1000 {
		t.Errorf("%d uploads after the move", n)
	}
}

func TestNilLimiterAllowsAll(t *testing.T) {
	var l *Limiter
	for range 10_000 {
		r := request("com.atproto.server.createSession", "192.0.2.1:1", "")
		if _, err := call(l, r); err != nil {
			t.Fatal(err)
		}
		done, err := l.Password(r, "alice")
		if err != nil || l.Admin(r, false) != nil {
			t.Fatal(err)
		}
		done(false)
	}
}

func BenchmarkAdmit(b *testing.B) {
	l := New(Config{})
	l.all.windows[0].Points = 1 << 40
	r := request("com.atproto.repo.getRecord", "192.0.2.1:4", "")
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		clear(w.Header())
		if err := l.Admit(w, r); err != nil {
			b.Fatal(err)
		}
	}
}

// Endpoints beside the methods are limited by network, and by client from all networks together.
func TestEndpoints(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	table := Official()
	table.Endpoints = map[string][]Window{"par": {{2, time.Minute}}}
	table.Clients = map[string][]Window{"par": {{3, time.Minute}}}
	l := New(Config{Table: table, Now: func() time.Time { return now }})
	call := func(from, name, client string) error {
		r := httptest.NewRequest("POST", "/oauth/"+name, nil)
		r.RemoteAddr = from + ":1"
		return l.Endpoint(r, name, client)
	}
	for i, c := range []struct {
		from, name, client string
		ok                 bool
	}{
		{"192.0.2.1", "par", "", true},
		{"192.0.2.1", "par", "", true},
		{"192.0.2.1", "par", "", false},
		{"192.0.2.2", "par", "", true},
		{"192.0.2.1", "token", "", true}, // has no limit
		{"192.0.2.1", "par", "https://app.example.com", true},
		{"192.0.2.2", "par", "https://app.example.com", true},
		{"192.0.2.3", "par", "https://app.example.com", true},
		{"192.0.2.4", "par", "https://app.example.com", false},
		{"192.0.2.4", "par", "https://another.example.com", true},
	} {
		err := call(c.from, c.name, c.client)
		if (err == nil) != c.ok {
			t.Errorf("%d: %v", i, err)
		}
		var busy *limit.Error
		if err != nil && (!errors.As(err, &busy) || busy.Status() != 429 || busy.RetryAfter != time.Minute) {
			t.Errorf("%d: %v", i, err)
		}
	}
	now = now.Add(time.Minute)
	if err := call("192.0.2.1", "par", ""); err != nil {
		t.Error(err)
	}
	table.Clients["par"] = []Window{{0, 0}}
	if err := table.Validate(); err == nil || !strings.Contains(err.Error(), "Clients[par]") {
		t.Error(err)
	}
	if err := (*Limiter)(nil).Endpoint(nil, "par", ""); err != nil {
		t.Error(err)
	}
}
