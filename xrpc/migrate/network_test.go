package migrate_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/migrate"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// TestNetwork moves an account between servers that are reached by a client of the caller's, while
// a relay follows both. The account gets the same name under the new server's domain.
func TestNetwork(t *testing.T) {
	net := pdstest.New(t)
	from, to := net.PDS(), net.PDS()
	alice := from.Account("alice")
	for range 3 {
		alice.Create("com.example.note", map[string]any{"text": "hello"})
	}
	asked := 0
	opt := migrate.Options{
		Account: string(alice.Handle), OldHost: "https://" + from.Name, NewHost: to.Name, State: filepath.Join(t.TempDir(), "state"),
		OldPassword: alice.Password, NewPassword: "another password", PLC: net.PLC().URL, HTTP: net.Client(), Patience: -1,
		Ask: func(ctx context.Context, q migrate.Question) (string, error) {
			asked++
			mail, err := net.Mail.Take(ctx, alice.Email, server.PLCOperation)
			return mail.Token, err
		},
	}
	for range 2 { // the second one has nothing to do
		if err := migrate.Run(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	out, err := api.RepoListRecords(t.Context(), to.Client(), api.RepoListRecordsParams{Repo: syntax.AtIdentifier("alice." + to.Name), Collection: "com.example.note"})
	if err != nil || len(out.Records) != 3 {
		t.Errorf("%d records, %v", len(out.Records), err)
	}
	doc, err := net.PLC().Resolve(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	if pds, _ := doc.PDS(); pds != "https://"+to.Name {
		t.Errorf("the document names %s", pds)
	}
	if err := net.Relay.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}
