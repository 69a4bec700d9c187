package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/session"
)

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
