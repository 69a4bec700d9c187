package client_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// A whole life of a session with a server of package provider, as a public and as a confidential
// client.
func TestCycle(t *testing.T) {
	box, err := sealed.New(bytes.Repeat([]byte{1}, sealed.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]client.Key{"public": nil, "confidential": {{Signer: newKey(t)}}} {
		t.Run(name, func(t *testing.T) {
			net := pdstest.New(t)
			alice := net.PDS().Account("alice")
			var updates, ends int
			a := newApp(t, net, "app.example.net", func(c *client.Config) {
				c.Keys = keys
				if keys != nil {
					c.Seal = box
				}
				c.OnUpdate = func(client.Info) { updates++ }
				c.OnEnd = func(_ client.Info, why client.EndReason) {
					if ends++; why != client.EndedRevoked {
						t.Errorf("it ended: %s", why)
					}
				}
			})
			ctx := t.Context()
			back := a.begin(client.Login{Account: "@" + string(alice.Handle), AppState: []byte("/page"), Browser: "b"}, alice)
			s, state, err := a.Finish(ctx, back, "b")
			if err != nil || string(state) != "/page" || s.DID() != alice.DID {
				t.Fatal(s, state, err)
			}
			i := s.Info()
			if i.Handle != alice.Handle || i.PDS != "https://pds1.test" || i.Issuer != i.PDS || i.Scope != noteScope || i.Expires.IsZero() {
				t.Errorf("%+v", i)
			}
			if err := create(ctx, s, "one"); err != nil {
				t.Fatal(err)
			}
			// It renews itself.
			net.Clock.Advance(time.Hour)
			other, err := a.another().Resume(ctx, s.ID())
			if err != nil {
				t.Fatal(err)
			}
			if err := create(ctx, other, "two"); err != nil {
				t.Fatal(err)
			}
			if err := create(ctx, s, "three"); err != nil { // it adopts what the other one got
				t.Fatal(err)
			}
			if err := s.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			if err := create(ctx, other, "four"); err != nil { // the server refuses its token
				t.Fatal(err)
			}
			raw, err := a.cfg.Sessions.Get(ctx, s.ID())
			if err != nil || bytes.Contains(raw, []byte("access")) == (keys != nil) {
				t.Errorf("stored: %.100q, %v", raw, err)
			}
			if updates != 3 {
				t.Errorf("%d updates", updates)
			}
			if err := s.Revoke(ctx); err != nil {
				t.Fatal(err)
			}
			for _, x := range []*client.Session{s, other} {
				if err := create(ctx, x, "five"); !errors.Is(err, client.ErrSessionEnded) {
					t.Error(err)
				}
			}
			if _, err := a.Resume(ctx, s.ID()); !errors.Is(err, client.ErrSessionEnded) {
				t.Error(err)
			}
			if ends != 1 {
				t.Errorf("%d ends", ends)
			}
		})
	}
}
