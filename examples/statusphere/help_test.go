package main

import (
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// caughtUp returns an error as long as the app has not applied all that its PDS has said.
func (w *world) caughtUp() error {
	_, newest, err := w.pds.Store().Events.Bounds(w.t.Context())
	if err != nil {
		return err
	}
	seq, _, _, err := w.app.index.Cursor(w.t.Context(), w.set.firehose)
	if err == nil && seq < newest {
		err = fmt.Errorf("the app has got to %d of %d", seq, newest)
	}
	return err
}

// personIs returns an error as long as an account is called otherwise.
func (w *world) personIs(did syntax.DID, handle, name string) error {
	p, err := w.app.index.Person(w.t.Context(), did)
	if want := handle + "." + w.pds.Name; err == nil && (string(p.Handle) != want || p.Name != name) {
		err = fmt.Errorf("it is called %q, %q", p.Handle, p.Name)
	}
	return err
}

// mustOAuth opens the sessions of an app.
func (a *app) mustOAuth(t *testing.T) *client.Client {
	t.Helper()
	c, err := a.oauth()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// deleteStatus deletes a status as another app does.
func deleteStatus(w *world, c *xrpc.Client, did, rkey string) error {
	_, err := api.RepoDeleteRecord(w.t.Context(), c, api.RepoDeleteRecordInput{Repo: syntax.AtIdentifier(did), Collection: status.Collection, RKey: syntax.RecordKey(rkey)})
	return err
}
