package session_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// A host puts a method of its own in the place of one, and does something before another.
func TestMethodsAreReplacedAndWrapped(t *testing.T) {
	b := testpds.New(t, nil)
	var logins []string
	b.Methods.With("com.atproto.server.createSession", func(rt xrpc.Route) xrpc.Route {
		rt.Handler = rt.Handler.Wrap(func(w http.ResponseWriter, r *xrpc.Request, next func(http.ResponseWriter, *xrpc.Request) error) error {
			err := next(w, r)
			logins = append(logins, fmt.Sprint(err == nil))
			return err
		})
		return rt
	})
	b.Methods.Replace(xrpc.Route{
		NSID: "com.atproto.server.createAppPassword", Auth: b.Sessions.User(session.RefuseTakenDown), Needs: []auth.Permission{auth.ManageCredentials},
		Handler: session.Procedure(func(context.Context, *xrpc.Request, xrpc.None) (out xrpc.None, err error) {
			return out, account.ErrTokenRevoked // an error of package account, for session.Answer
		}),
	})
	b.Register("alice")
	alice, a := b.Login("alice.test", "password of alice")
	if a.Status != http.StatusOK {
		t.Fatal(a.Body)
	}
	b.Login("alice.test", "wrong")
	if fmt.Sprint(logins) != "[true false]" {
		t.Errorf("%v", logins)
	}
	if a := b.Send("POST", "com.atproto.server.createAppPassword", "Bearer "+alice.AccessJWT, nil, nil); a.Name != "ExpiredToken" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := b.Send("POST", "com.atproto.server.createAppPassword", "", nil, nil); a.Name != "AuthMissing" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// OAuth sessions are known by somebody else, who is asked once more when something is changed. Other
// credentials stay here.
func TestOAuth(t *testing.T) {
	var did syntax.DID
	var asked []string
	var ended error
	permissions := auth.Everything()
	b := testpds.New(t, func(c *session.Config) {
		c.OAuth = others{
			authenticate: func(r *xrpc.Request) (auth.Principal, error) {
				asked = append(asked, r.Header.Get("Authorization"))
				return auth.Principal{Role: auth.User, Credential: auth.OAuthSession, DID: did, Permissions: permissions}, nil
			},
			admit: func(context.Context, storage.KVReader, account.Account) ([]storage.KVCheck, error) { return nil, ended },
		}
	})
	alice := b.Register("alice")
	did = alice.DID
	for header, status := range map[string]int{"DPoP x": 200, "": 401, "Bearer x": 400, "basic x": 400, "Bearer " + alice.AccessJWT: 200} {
		if a := b.Send("GET", "com.atproto.server.getSession", header, nil, nil); a.Status != status {
			t.Errorf("%s: %d %s", header, a.Status, a.Body)
		}
	}
	if a := b.Send("POST", "com.atproto.server.requestAccountDelete", "DPoP y", nil, nil); a.Status != http.StatusNotImplemented { // there is no mail
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if want := []string{"DPoP x", "DPoP y"}; !slices.Equal(asked, want) {
		t.Errorf("%v", asked)
	}
	// What they are not permitted to see is left out.
	permissions, _ = auth.ParseScopes("atproto")
	if a := b.Send("GET", "com.atproto.server.getSession", "DPoP x", nil, nil); a.Status != 200 || strings.Contains(strings.ToLower(a.Body), "email") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	// A session that ends while a method runs changes nothing.
	permissions, ended = auth.Everything(), account.ErrTokenRevoked
	for method, in := range map[string]any{
		"com.atproto.server.deactivateAccount": map[string]any{},
		"com.atproto.server.createAppPassword": map[string]any{"name": "x"},
	} {
		if a := b.Send("POST", method, "DPoP x", in, nil); a.Status != 400 || !strings.Contains(a.Body, "ExpiredToken") {
			t.Errorf("%s: %d %s", method, a.Status, a.Body)
		}
	}
}

// others knows OAuth sessions as a test says.
type others struct {
	authenticate xrpc.Authenticator
	admit        account.Admission
}

func (o others) Authenticate(r *xrpc.Request) (auth.Principal, error) { return o.authenticate(r) }

func (o others) Caller(p auth.Principal) account.Caller {
	return account.NewCaller(p.DID, p.Session, o.admit)
}

// Where credentials are optional, bad ones are refused, and good ones show more.
func TestOptionalCredentials(t *testing.T) {
	b := testpds.New(t, nil)
	alice, bob := b.Register("alice"), b.Register("bob")
	get := func(header string) int {
		return b.Send("GET", "com.atproto.sync.getLatestCommit?did="+string(alice.DID), header, nil, nil).Status
	}
	for _, down := range []bool{false, true} {
		if down {
			b.TakeDown(alice.DID, true)
		}
		public := map[bool]int{false: 200, true: 400}[down]
		for header, want := range map[string]int{
			"": public, "Bearer x": 400, testpds.Admin("wrong"): 401, testpds.Admin("hunter2"): 200,
			"Bearer " + alice.AccessJWT: 200, "Bearer " + bob.AccessJWT: public, "Bearer " + alice.RefreshJWT: 400,
		} {
			if got := get(header); got != want {
				t.Errorf("taken down: %v, with %q: %d, want %d", down, header, got, want)
			}
		}
	}
}
