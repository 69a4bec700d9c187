package pds_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// A method of a host's own writes for its caller by the rules of createRecord: with the permission,
// of an active account, on the word of a session of this server that goes on.
func TestMethodThatWrites(t *testing.T) {
	const shout = "com.example.shout"
	net := pdstest.New(t)
	var s *pds.Server
	route := func(nsid string, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Auth: s.Sessions.Optional(), Needs: needs, Handler: xrpc.Procedure(
			func(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
				record, err := data.Encode(map[string]any{"$type": "com.example.note"})
				if err != nil {
					return out, err
				}
				_, err = s.Repos.Write(ctx, r, repo.Write{Action: repo.Create, Collection: "com.example.note", RKey: s.Host.NextRecordKey(), Record: record})
				return out, err
			})}
	}
	home, other := net.PDS(func(c *pds.Config) {
		c.Setup = func(made *pds.Server) {
			s = made
			s.Methods.Handle(route(shout, auth.Write(auth.Create, auth.FromInput)), route("com.example.undeclared"))
		}
	}), net.PDS()
	alice, bob := home.Account("alice"), home.Account("bob")
	secret, err := api.ServerCreateAppPassword(t.Context(), alice, api.ServerCreateAppPasswordInput{Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	app, err := alice.Login(secret.Password)
	if err != nil {
		t.Fatal(err)
	}
	call := func(c *xrpc.Client, nsid, want string) {
		t.Helper()
		err := c.Procedure(t.Context(), nsid, nil, nil)
		if want == "" && err != nil || want != "" && !errors.Is(err, &xrpc.Error{Name: want}) {
			t.Errorf("%s: %v, want %q", nsid, err, want)
		}
	}
	call(alice.Client, shout, "")
	call(app, shout, "")
	call(home.Client(), shout, "AuthMissing")
	call(home.Admin(), shout, "ScopeMissingError")
	call(alice.Client, "com.example.undeclared", "InternalServerError")
	stranger := other.Account("stranger")
	stranger.Host = alice.Host // a session of another server
	call(stranger.Client, shout, "InvalidToken")
	head := func() repo.Stats {
		st, err := s.Host.Stats(t.Context(), alice.DID)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	before := head()
	if err := api.ServerDeactivateAccount(t.Context(), alice, api.ServerDeactivateAccountInput{}); err != nil {
		t.Fatal(err)
	}
	call(alice.Client, shout, "AccountDeactivated")
	if err := s.Accounts.TakeDown(t.Context(), bob.DID, account.Takedown{Applied: true, Ref: "x"}); err != nil {
		t.Fatal(err)
	}
	call(bob.Client, shout, "AccountTakedown")
	if after := head(); after != before {
		t.Errorf("%+v, then %+v", before, after)
	}
}
