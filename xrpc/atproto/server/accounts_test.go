package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/session"
)

var _ = testenv.CheapPasswords()

func TestMisuse(t *testing.T) {
	b := newBench(t, nil)
	for want, change := range map[string]func(*Config){
		"":                    func(*Config) {},
		"Config.Sessions":     func(c *Config) { c.Sessions = nil },
		"Config.Directory":    func(c *Config) { c.Directory = nil },
		"Config.RotationKeys": func(c *Config) { c.RotationKeys = nil },
		"nil key":             func(c *Config) { c.RotationKeys = []crypto.Signer{nil} },
		"Config.RecoveryKey":  func(c *Config) { c.RecoveryKey = "did:key:z" },
		"begins with a dot":   func(c *Config) { c.Policy.Domains = []string{".Upper.test"} },
		"labels of 9 to 4":    func(c *Config) { c.Policy.MinLabel, c.Policy.MaxLabel = 9, 4 },
		"no address": func(c *Config) {
			common := b.sessions.Config()
			common.Key = []byte("a key for tests only")
			common.URL = "pds.example.com"
			c.Sessions = session.New(common)
		},
		"no ResolveHandle": func(c *Config) {
			common := b.sessions.Config()
			common.Key = []byte("a key for tests only")
			common.Resolver = struct{ session.Resolver }{common.Resolver}
			c.Sessions = session.New(common)
		},
	} {
		cfg := b.cfg
		change(&cfg)
		got := func() (got any) {
			defer func() { got = recover() }()
			New(cfg)
			return nil
		}()
		if text, _ := got.(string); !strings.Contains(text, want) || (got == nil) != (want == "") {
			t.Errorf("%s: %v", want, got)
		}
	}
}

// directory is a did:plc directory that may fail, or take an operation and not answer.
type directory struct {
	Directory
	mu        sync.Mutex
	submitted []*identity.PLCOperation
	fail      error
	silent    bool
}

func (d *directory) Submit(ctx context.Context, did syntax.DID, op *identity.PLCOperation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	d.submitted = append(d.submitted, op)
	if err := d.Directory.Submit(ctx, did, op); err != nil || !d.silent {
		return err
	}
	return identity.ErrUnavailable
}

func newAccount(name string, more ...string) map[string]any {
	in := map[string]any{"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name}
	for i := 0; i < len(more); i += 2 {
		in[more[i]] = more[i+1]
	}
	return in
}

const createAccount = "com.atproto.server.createAccount"

// A policy that refuses an account sees what is asked for, and nothing becomes of that: no DID is
// registered, and the names are free.
func TestPolicyThatRefuses(t *testing.T) {
	var asked []NewAccount
	var refuse error
	dir := &directory{}
	b := newBench(t, func(_ *session.Config, c *Config) {
		dir.Directory, c.Directory = c.Directory, dir
		c.Policy.Admit = func(ctx context.Context, r *xrpc.Request, n NewAccount) error {
			if r.NSID != createAccount {
				t.Error(r.NSID)
			}
			asked = append(asked, n)
			return refuse
		}
	})
	refuse = &xrpc.Error{Status: http.StatusForbidden, Name: "Stranger", Message: "Members only"}
	b.fails(403, "Stranger", "POST", createAccount, "", newAccount("alice"))
	refuse = errors.New("the list of members cannot be read")
	b.fails(500, "InternalServerError", "POST", createAccount, "", newAccount("Alice"))
	if len(dir.submitted) > 0 {
		t.Errorf("%d DIDs were registered", len(dir.submitted))
	}
	refuse = nil
	alice := b.register("alice")
	want := NewAccount{Handle: "alice.test", Email: "alice@example.com"}
	if diff := cmp.Diff([]NewAccount{want, {Handle: "alice.test", Email: "Alice@example.com"}, want}, asked); diff != "" {
		t.Error(diff)
	}
	if kinds, _ := b.events(alice.DID, 0); !slices.Equal(kinds, []string{"#identity", "#account", "#commit", "#sync"}) {
		t.Errorf("%v", kinds)
	}
}

// The operator's program makes accounts where strangers get none, and can log in to them.
func TestAccountsOfTheOperator(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.InviteRequired = true
		c.Policy.Admit = func(context.Context, *xrpc.Request, NewAccount) error { return errors.New("nobody") }
	})
	in := api.ServerCreateAccountInput{Handle: "Me.test", Email: "me@example.com", Password: "a long password"}
	a, err := b.CreateAccount(t.Context(), in)
	if err != nil || a.Handle != "me.test" {
		t.Fatalf("%+v, %v", a, err)
	}
	if x, reply := b.login("me.test", in.Password); x.DID != a.DID {
		t.Error(reply.Body)
	}
	if kinds, _ := b.events(a.DID, 0); !slices.Equal(kinds, []string{"#identity", "#account", "#commit", "#sync"}) {
		t.Errorf("%v", kinds)
	}
	reserved := in
	reserved.Handle, reserved.Email = "admin.test", "admin@example.com"
	if _, err := b.CreateAccount(t.Context(), reserved); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*api.ServerCreateAccountInput){
		"Handle already taken":   func(in *api.ServerCreateAccountInput) { in.Email = "other@example.com" },
		"Email already taken":    func(in *api.ServerCreateAccountInput) { in.Handle = "other.test" },
		"Not a supported handle": func(in *api.ServerCreateAccountInput) { in.Handle = "me.example.org" },
		"valid handle":           func(in *api.ServerCreateAccountInput) { in.Handle = ".test" },
		"Password is required":   func(in *api.ServerCreateAccountInput) { in.Password = "" },
		"by its owner":           func(in *api.ServerCreateAccountInput) { in.DID = "did:web:me.example.org" },
	} {
		other := in
		change(&other)
		var refused *xrpc.Error
		if _, err := b.CreateAccount(t.Context(), other); !errors.As(err, &refused) || !strings.Contains(refused.Message, want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestNewAccountsAreChecked(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) { c.Policy.Domains = []string{".test", ".example.com"} })
	b.register("alice")
	for _, c := range []struct {
		name string // of the error
		in   map[string]any
	}{
		{"InvalidRequest", newAccount("alice", "email", "other@example.com")},       // taken
		{"InvalidRequest", newAccount("alice2", "email", "Alice@EXAMPLE.com")},      // taken
		{"InvalidHandle", newAccount("al")},                                         // short
		{"InvalidHandle", newAccount(strings.Repeat("x", 19))},                      // long
		{"InvalidHandle", newAccount("a.b")},                                        // two labels
		{"HandleNotAvailable", newAccount("admin")},                                 // reserved
		{"UnsupportedDomain", newAccount("bob", "handle", "bob.example.org")},       // not ours
		{"InvalidHandle", newAccount("bob", "handle", "bob.local")},                 // of a reserved domain
		{"InvalidRequest", newAccount("bob", "handle", "b_b.test")},                 // against the schema
		{"InvalidRequest", newAccount("bob", "email", "")},                          //
		{"InvalidRequest", newAccount("bob", "email", "bob")},                       //
		{"InvalidRequest", newAccount("bob", "email", "Bob <bob@example.com>")},     //
		{"InvalidRequest", newAccount("bob", "email", "bob@x\r\nBcc: y@y.com")},     //
		{"InvalidPassword", newAccount("bob", "password", "")},                      //
		{"InvalidRequest", newAccount("bob", "password", strings.Repeat("x", 257))}, //
		{"InvalidRequest", newAccount("bob", "recoveryKey", "did:key:zNone")},       //
	} {
		b.fails(400, c.name, "POST", createAccount, "", c.in)
	}
	b.must("POST", createAccount, "", newAccount("bob", "handle", "BOB.example.com"), nil)
	// A key of the owner comes before the server's.
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	var carla tokens
	b.must("POST", createAccount, "", newAccount("carla", "recoveryKey", key.PublicKey().DIDKey()), &carla)
	doc, err := b.plc.Data(t.Context(), carla.DID)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{key.PublicKey().DIDKey(), b.rotation.PublicKey().DIDKey()}; !slices.Equal(doc.RotationKeys, want) {
		t.Errorf("%v", doc.RotationKeys)
	}
}

// What a directory does not take is given up; what it took without an answer is there.
func TestDirectoryThatFails(t *testing.T) {
	dir := &directory{}
	b := newBench(t, func(_ *session.Config, c *Config) { dir.Directory, c.Directory = c.Directory, dir })
	dir.fail = identity.ErrUnavailable
	b.fails(502, "UpstreamFailure", "POST", createAccount, "", newAccount("alice"))
	dir.fail = fmt.Errorf("%w: rubbish", identity.ErrDocument)
	b.fails(502, "UpstreamFailure", "POST", createAccount, "", newAccount("alice"))
	dir.fail, dir.silent = nil, true
	alice := b.register("alice")
	if _, a := b.login("alice.test", "password of alice"); a.Status != http.StatusOK {
		t.Error(a.Body)
	}
	dir.fail = identity.ErrUnavailable
	b.fails(502, "UpstreamFailure", "POST", "com.atproto.identity.updateHandle", alice.AccessJWT, map[string]any{"handle": "alice2.test"})
	if a, err := b.accounts.ByDID(t.Context(), alice.DID); err != nil || a.Handle != "alice.test" {
		t.Errorf("%+v, %v", a, err)
	}
}

// Nothing is registered while the clock is wrong.
func TestClockThatIsWrong(t *testing.T) {
	dir := &directory{}
	wrong := &xrpc.Error{Status: 503, Name: "ClockNotTrusted"}
	b := newBench(t, func(_ *session.Config, c *Config) {
		dir.Directory, c.Directory = c.Directory, dir
		c.CheckClock = func(context.Context) error { return wrong }
	})
	b.fails(503, "ClockNotTrusted", "POST", createAccount, "", newAccount("alice"))
	if len(dir.submitted) > 0 {
		t.Error("a DID was registered")
	}
}

func TestInvites(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.InviteRequired, c.Policy.InviteInterval = true, 24*time.Hour
	})
	var described struct{ InviteCodeRequired bool }
	if b.must("GET", "com.atproto.server.describeServer", "", nil, &described); !described.InviteCodeRequired {
		t.Error("describeServer does not say so")
	}
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("alice"))
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("alice", "inviteCode", "127-0-0-1-abcde-fghij"))
	b.fails(401, "AuthMissing", "POST", "com.atproto.server.createInviteCode", "", map[string]any{"useCount": 1})
	var one struct{ Code string }
	if a := b.admin("POST", "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}, &one); a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	var alice tokens
	b.must("POST", createAccount, "", newAccount("alice", "inviteCode", one.Code), &alice)
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("bob", "inviteCode", one.Code))
	for what, c := range map[string]struct {
		method string
		in     map[string]any
	}{
		"no use":   {"createInviteCode", map[string]any{"useCount": 0}},
		"nobody":   {"createInviteCode", map[string]any{"useCount": 1, "forAccount": "did:web:nobody.example.com"}},
		"no uses":  {"createInviteCodes", map[string]any{"codeCount": 1, "useCount": 0}},
		"no codes": {"createInviteCodes", map[string]any{"codeCount": 0, "useCount": 1}},
		"too many": {"createInviteCodes", map[string]any{"codeCount": 1001, "useCount": 1}},
		"nobody's": {"createInviteCodes", map[string]any{"codeCount": 1, "useCount": 1, "forAccounts": []string{"did:web:nobody.example.com"}}},
	} {
		if a := b.admin("POST", "com.atproto.server."+c.method, c.in, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	var many struct {
		Codes []struct {
			Account string
			Codes   []string
		}
	}
	if a := b.admin("POST", "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 2, "useCount": 3, "forAccounts": []any{alice.DID}}, &many); a.Status != 200 || len(many.Codes[0].Codes) != 2 {
		t.Fatal(a.Body)
	}
	type codes struct {
		Codes []struct {
			Code string
			Uses []any
		}
	}
	mine := func(query string) int {
		var out codes
		b.must("GET", "com.atproto.server.getAccountInviteCodes"+query, alice.AccessJWT, nil, &out)
		return len(out.Codes)
	}
	if n := mine(""); n != 2 {
		t.Errorf("%d codes", n)
	}
	b.clock.pass(25 * time.Hour)
	alice, _ = b.login("alice.test", "password of alice")
	if n := mine("?createAvailable=false"); n != 2 {
		t.Errorf("%d codes without those that were earned", n)
	}
	if n := mine(""); n != 3 {
		t.Errorf("%d codes with one that was earned", n)
	}
	var bob tokens
	b.must("POST", createAccount, "", newAccount("bob", "inviteCode", many.Codes[0].Codes[0]), &bob)
	// The operator's views.
	var info struct {
		InvitedBy struct{ Code, ForAccount string }
		Invites   []any
	}
	if a := b.admin("GET", "com.atproto.admin.getAccountInfo?did="+string(bob.DID), nil, &info); a.Status != 200 || info.InvitedBy.ForAccount != string(alice.DID) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := b.admin("GET", "com.atproto.admin.getAccountInfo?did="+string(alice.DID), nil, &info); a.Status != 200 || len(info.Invites) != 3 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var all codes
	if a := b.admin("GET", "com.atproto.admin.getInviteCodes?sort=usage&limit=2", nil, &all); a.Status != 200 || len(all.Codes) != 2 || len(all.Codes[0].Uses) != 1 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, query := range []string{"sort=usage&cursor=x", "sort=age"} {
		if a := b.admin("GET", "com.atproto.admin.getInviteCodes?"+query, nil, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
	// They are disabled.
	for what, in := range map[string]any{
		"an unknown code": map[string]any{"codes": []string{"x"}}, "the administrator's": map[string]any{"accounts": []string{"admin"}},
	} {
		if a := b.admin("POST", "com.atproto.admin.disableInviteCodes", in, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	if a := b.admin("POST", "com.atproto.admin.disableInviteCodes", map[string]any{"accounts": []any{alice.DID}}, nil); a.Status != 200 {
		t.Error(a.Body)
	}
	if n := mine("?createAvailable=false"); n != 0 {
		t.Errorf("%d codes after all were disabled", n)
	}
	b.fails(400, "InvalidInviteCode", "POST", createAccount, "", newAccount("carla", "inviteCode", many.Codes[0].Codes[1]))
	for method, disabled := range map[string]bool{"disableAccountInvites": true, "enableAccountInvites": false} {
		if a := b.admin("POST", "com.atproto.admin."+method, map[string]any{"account": alice.DID}, nil); a.Status != 200 {
			t.Error(a.Body)
		}
		if a, err := b.accounts.ByDID(t.Context(), alice.DID); err != nil || a.InvitesDisabled != disabled {
			t.Errorf("%s: %+v %v", method, a, err)
		}
		if a := b.admin("POST", "com.atproto.admin."+method, map[string]any{"account": "did:web:nobody.example.com"}, nil); a.Status != 400 {
			t.Errorf("%s of nobody: %d %s", method, a.Status, a.Body)
		}
	}
}

func TestEmailIsConfirmedAndChanged(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	confirm := func(email, token string) map[string]any { return map[string]any{"email": email, "token": token} }
	b.must("POST", "com.atproto.server.requestEmailConfirmation", alice.AccessJWT, nil, nil)
	m := b.mail.last()
	if m.Kind != ConfirmEmail || m.To != "alice@example.com" || m.DID != alice.DID || m.Handle != "alice.test" ||
		m.Token == "" || !strings.Contains(m.Text, m.Token) || m.Subject != "Confirm your e-mail address (127.0.0.1)" {
		t.Errorf("%+v", m)
	}
	const method = "com.atproto.server.confirmEmail"
	b.fails(400, "InvalidEmail", "POST", method, alice.AccessJWT, confirm("bob@example.com", m.Token))
	b.fails(400, "InvalidToken", "POST", method, alice.AccessJWT, confirm("alice@example.com", "AAAAA-AAAAA"))
	b.clock.pass(16 * time.Minute)
	b.fails(400, "ExpiredToken", "POST", method, alice.AccessJWT, confirm("alice@example.com", m.Token))
	b.must("POST", "com.atproto.server.requestEmailConfirmation", alice.AccessJWT, nil, nil)
	b.must("POST", method, alice.AccessJWT, confirm("Alice@example.com", strings.ToLower(b.mail.last().Token)), nil)
	var who struct{ EmailConfirmed bool }
	if b.must("GET", "com.atproto.server.getSession", alice.AccessJWT, nil, &who); !who.EmailConfirmed {
		t.Error("not confirmed")
	}
	// A confirmed address is changed with a token that was sent there.
	var need struct{ TokenRequired bool }
	if b.must("POST", "com.atproto.server.requestEmailUpdate", alice.AccessJWT, nil, &need); !need.TokenRequired || b.mail.last().Kind != UpdateEmail {
		t.Errorf("%v, %+v", need, b.mail.last())
	}
	const update = "com.atproto.server.updateEmail"
	b.fails(400, "TokenRequired", "POST", update, alice.AccessJWT, map[string]any{"email": "a@example.com"})
	b.fails(400, "InvalidToken", "POST", update, alice.AccessJWT, confirm("a@example.com", "AAAAA-AAAAA"))
	b.fails(400, "InvalidRequest", "POST", update, alice.AccessJWT, confirm("not an address", b.mail.last().Token))
	b.must("POST", update, alice.AccessJWT, confirm("a@example.com", b.mail.last().Token), nil)
	if b.must("POST", "com.atproto.server.requestEmailUpdate", alice.AccessJWT, nil, &need); need.TokenRequired {
		t.Error("a token for an address that is not confirmed")
	}
	b.register("bob")
	b.fails(400, "InvalidRequest", "POST", update, alice.AccessJWT, map[string]any{"email": "Bob@example.com"})
}

// A mail server that fails is not the caller's fault, and is not told to whom it must not matter.
func TestMailerThatFails(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	b.mail.set(nil, errors.New("no such mailbox"))
	for _, method := range []string{
		"com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestAccountDelete", "com.atproto.identity.requestPlcOperationSignature",
	} {
		b.fails(502, "UpstreamFailure", "POST", method, alice.AccessJWT, nil)
	}
	if a := b.admin("POST", "com.atproto.admin.sendEmail", map[string]any{"recipientDid": alice.DID, "content": "x", "senderDid": alice.DID}, nil); a.Status != 502 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	b.must("POST", "com.atproto.server.requestPasswordReset", "", map[string]any{"email": "alice@example.com"}, nil)
	b.drain()
	if m := b.mail.last(); m.Kind != ResetPassword {
		t.Errorf("%+v", m)
	}
}

func TestNoMailer(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) { c.Mailer = nil })
	alice := b.register("alice")
	for _, method := range []string{
		"com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestAccountDelete", "com.atproto.identity.requestPlcOperationSignature",
	} {
		b.fails(501, "MethodNotImplemented", "POST", method, alice.AccessJWT, nil)
	}
	b.fails(501, "MethodNotImplemented", "POST", "com.atproto.server.requestPasswordReset", "", map[string]any{"email": "alice@example.com"})
	if a := b.admin("POST", "com.atproto.admin.sendEmail", map[string]any{"recipientDid": alice.DID, "content": "x", "senderDid": alice.DID}, nil); a.Status != 501 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestAccountIsDeleted(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	b.must("POST", "com.atproto.server.requestAccountDelete", alice.AccessJWT, nil, nil)
	m := b.mail.last()
	if m.Kind != DeleteAccount {
		t.Errorf("%+v", m)
	}
	_, seq := b.events(alice.DID, 0)
	const method = "com.atproto.server.deleteAccount"
	in := func(did syntax.DID, password, token string) map[string]any {
		return map[string]any{"did": did, "password": password, "token": token}
	}
	b.fails(401, "AuthenticationRequired", "POST", method, "", in(alice.DID, "wrong", m.Token))
	b.fails(400, "InvalidToken", "POST", method, "", in(alice.DID, "password of alice", "AAAAA-AAAAA"))
	b.fails(400, "InvalidRequest", "POST", method, "", in("did:web:nobody.example.com", "x", m.Token))
	b.must("POST", method, "", in(alice.DID, "password of alice", m.Token), nil)
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#account"}) {
		t.Errorf("%v", kinds)
	}
	b.fails(403, "AccountNotFound", "GET", "com.atproto.server.getSession", alice.AccessJWT, nil)
	b.register("alice") // the names are free
}

func TestAccountSleepsAndWakes(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	_, seq := b.events(alice.DID, 0)
	status := func() (out struct {
		Activated, ValidDid bool
		RepoCommit          string
		IndexedRecords      int
	}) {
		b.t.Helper()
		b.must("GET", "com.atproto.server.checkAccountStatus", alice.AccessJWT, nil, &out)
		return out
	}
	if s := status(); !s.Activated || !s.ValidDid || s.RepoCommit == "" {
		t.Errorf("%+v", s)
	}
	b.must("POST", "com.atproto.server.deactivateAccount", alice.AccessJWT, map[string]any{"deleteAfter": "2026-02-15T12:00:00.000Z"}, nil)
	if s := status(); s.Activated {
		t.Errorf("%+v", s)
	}
	b.must("POST", "com.atproto.server.activateAccount", alice.AccessJWT, nil, nil)
	if s := status(); !s.Activated {
		t.Errorf("%+v", s)
	}
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#account", "#account", "#identity", "#sync"}) {
		t.Errorf("%v", kinds)
	}
}

// txt is DNS with TXT records.
type txt map[string]string

func (x txt) LookupTXT(_ context.Context, name string) ([]string, error) {
	if text, ok := x[strings.TrimSuffix(name, ".")]; ok {
		return []string{text}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// refusing is a transport that reaches nobody.
type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, errors.New("nobody is reached")
}

func TestHandleIsChanged(t *testing.T) {
	names := txt{}
	b := newBench(t, func(s *session.Config, _ *Config) {
		r := s.Resolver.(*identity.Resolver)
		r.DNS, r.HTTP = names, &http.Client{Transport: refusing{}}
	})
	alice, bob := b.register("alice"), b.register("bob")
	names["_atproto.alice.example.com"] = "did=" + string(alice.DID)
	names["_atproto.bob.example.com"] = "did=" + string(bob.DID)
	_, seq := b.events(alice.DID, 0)
	const method = "com.atproto.identity.updateHandle"
	handle := func(h string) map[string]any { return map[string]any{"handle": h} }
	for h, name := range map[string]string{
		"bob.test": "InvalidRequest", "x.test": "InvalidHandle", "root.test": "HandleNotAvailable",
		"bob.example.com": "InvalidRequest", "nobody.example.com": "InvalidRequest",
	} {
		b.fails(400, name, "POST", method, alice.AccessJWT, handle(h))
	}
	for _, h := range []string{"Alice2.test", "alice.example.com", "alice.example.com"} {
		b.must("POST", method, alice.AccessJWT, handle(h), nil)
		doc, err := b.plc.Data(t.Context(), alice.DID)
		if want := "at://" + strings.ToLower(h); err != nil || doc.AlsoKnownAs[0] != want {
			t.Errorf("%v, %v", doc, err)
		}
	}
	// The network is told even if nothing changes.
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#identity", "#identity", "#identity"}) {
		t.Errorf("%v", kinds)
	}
	// The administrator may give short and reserved ones, but none of others.
	change := func(h string) testxrpc.Reply {
		return b.admin("POST", "com.atproto.admin.updateAccountHandle", map[string]any{"did": alice.DID, "handle": h}, nil)
	}
	for h, status := range map[string]int{"root.test": 200, "x.test": 200, "bob.test": 400, "bob.example.com": 400} {
		if a := change(h); a.Status != status {
			t.Errorf("%s: %d %s", h, a.Status, a.Body)
		}
	}
	if a := b.admin("POST", "com.atproto.admin.updateAccountHandle", map[string]any{"did": "did:web:nobody.example.com", "handle": "nobody.test"}, nil); a.Name != "AccountNotFound" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestPLCOperations(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	var recommended map[string]any
	b.must("GET", "com.atproto.identity.getRecommendedDidCredentials", alice.AccessJWT, nil, &recommended)
	b.must("POST", "com.atproto.identity.requestPlcOperationSignature", alice.AccessJWT, nil, nil)
	m := b.mail.last()
	if m.Kind != PLCOperation {
		t.Errorf("%+v", m)
	}
	const sign, submit = "com.atproto.identity.signPlcOperation", "com.atproto.identity.submitPlcOperation"
	b.fails(400, "InvalidRequest", "POST", sign, alice.AccessJWT, recommended)
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	ask := map[string]any{"token": "AAAAA-AAAAA", "rotationKeys": []string{key.PublicKey().DIDKey(), b.rotation.PublicKey().DIDKey()}}
	b.fails(400, "InvalidToken", "POST", sign, alice.AccessJWT, ask)
	ask["token"] = m.Token
	bad := map[string]any{"token": m.Token, "rotationKeys": []string{"did:key:zNone"}}
	b.fails(400, "InvalidRequest", "POST", sign, alice.AccessJWT, bad)
	var signed struct{ Operation map[string]any }
	b.must("POST", sign, alice.AccessJWT, ask, &signed) // the token was not spent on what failed
	b.fails(400, "InvalidToken", "POST", sign, alice.AccessJWT, ask)
	// An operation that would leave the account without this server is not passed on, though the
	// directory would take it.
	text, err := json.Marshal(signed.Operation)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(op *identity.PLCOperation){
		"another server": func(op *identity.PLCOperation) { op.SetPDS("https://other.example.com") },
		"no server":      func(op *identity.PLCOperation) { op.Services = nil },
		"another service": func(op *identity.PLCOperation) {
			op.Services = map[string]identity.PLCService{identity.PDSID: {Type: "Other", Endpoint: b.url}}
		},
		"another key":     func(op *identity.PLCOperation) { op.SetSigningKey(key.PublicKey()) },
		"another handle":  func(op *identity.PLCOperation) { op.SetHandle("bob.test") },
		"without our key": func(op *identity.PLCOperation) { op.RotationKeys = []string{key.PublicKey().DIDKey()} },
	} {
		op, err := identity.ParsePLCOperation(text)
		if err != nil {
			t.Fatal(err)
		}
		change(op)
		if err := op.Sign(t.Context(), b.rotation); err != nil {
			t.Fatal(err)
		}
		if a := b.send("POST", submit, "Bearer "+alice.AccessJWT, "", map[string]any{"operation": op}, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	for what, op := range map[string]map[string]any{"no operation": {}, "a tombstone": {"type": "plc_tombstone", "prev": signed.Operation["prev"]}, "of another shape": {"type": 7}} {
		if a := b.send("POST", submit, "Bearer "+alice.AccessJWT, "", map[string]any{"operation": op}, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	_, seq := b.events(alice.DID, 0)
	b.must("POST", submit, alice.AccessJWT, map[string]any{"operation": signed.Operation}, nil)
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#identity"}) {
		t.Errorf("%v", kinds)
	}
	doc, err := b.plc.Data(t.Context(), alice.DID)
	if err != nil || doc.RotationKeys[0] != key.PublicKey().DIDKey() {
		t.Errorf("%v, %v", doc, err)
	}
}

// A host has its own rules for the handles under its domains.
func TestRulesForHandles(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.MinLabel, c.Policy.MaxLabel = 1, 25
		c.Policy.Reserved = func(label string) bool { return label == "me" || ReservedLabel(label) && label != "news" }
	})
	for name, want := range map[string]string{
		"x": "", strings.Repeat("x", 25): "", "news": "", "me": "HandleNotAvailable", "admin": "HandleNotAvailable", strings.Repeat("x", 26): "InvalidHandle",
	} {
		if a := b.send("POST", createAccount, "", "", newAccount(name), nil); a.Name != want {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
}

// Of many who want the same handle, address or invite code at once, one has it, and nothing is left of
// the others.
func TestAccountsAtOnce(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) { c.Policy.InviteRequired = true })
	code := func(uses int) string {
		var out struct{ Code string }
		if a := b.admin("POST", "com.atproto.server.createInviteCode", map[string]any{"useCount": uses}, &out); a.Status != 200 {
			t.Fatal(a.Body)
		}
		return out.Code
	}
	many, once := code(100), code(1)
	for what, in := range map[string]func(i int) map[string]any{
		"handle": func(i int) map[string]any {
			return newAccount("handle", "email", fmt.Sprintf("h%d@example.com", i), "inviteCode", many)
		},
		"address": func(i int) map[string]any {
			return newAccount(fmt.Sprintf("address%d", i), "email", "one@example.com", "inviteCode", many)
		},
		"code": func(i int) map[string]any { return newAccount(fmt.Sprintf("code%d", i), "inviteCode", once) },
	} {
		var all sync.WaitGroup
		var made atomic.Int32
		for i := range 8 {
			all.Go(func() {
				switch a := b.send("POST", createAccount, "", "", in(i), nil); a.Status {
				case 200:
					made.Add(1)
				case 400:
				default:
					t.Errorf("%s: %d %s", what, a.Status, a.Body)
				}
			})
		}
		all.Wait()
		if n := made.Load(); n != 1 {
			t.Errorf("%d accounts have one %s", n, what)
		}
	}
	if problems, err := b.accounts.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestDescribeServer(t *testing.T) {
	b := newBench(t, func(_ *session.Config, c *Config) {
		c.Policy.PrivacyPolicy, c.Policy.ContactEmail = "https://example.com/privacy", "help@example.com"
	})
	var got map[string]any
	b.must("GET", "com.atproto.server.describeServer", "", nil, &got)
	want := map[string]any{
		"did": "did:web:localhost", "availableUserDomains": []any{".test"}, "inviteCodeRequired": false,
		"links": map[string]any{"privacyPolicy": "https://example.com/privacy"}, "contact": map[string]any{"email": "help@example.com"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	alice := b.register("alice")
	var queue struct{ Activated bool }
	if b.must("GET", "com.atproto.temp.checkSignupQueue", alice.AccessJWT, nil, &queue); !queue.Activated {
		t.Error("there is a queue")
	}
}
