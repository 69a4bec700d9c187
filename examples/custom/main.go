// Custom is a custom PDS: that of a club, whose members have accounts under its name.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// members says who may have an account: whoever has an e-mail address of the club.
func members(_ context.Context, _ *xrpc.Request, n server.NewAccount) error {
	if !strings.HasSuffix(n.Email, "@club.example") {
		return &xrpc.Error{Status: http.StatusForbidden, Name: "NotAMember", Message: "Accounts are for members of the club"}
	}
	return nil
}

// open opens the PDS that is served at an address, keeps its data in a folder, and passes on to an
// AppView what it does not have itself.
func open(ctx context.Context, url, dir string, view pds.AppView) *pds.Server {
	db := must(sqlite.Open(ctx, filepath.Join(dir, "club.sqlite"), sqlite.Config{}))
	// A did:plc directory for development. A server with a public address leaves it out.
	directory := must(plctest.New(plctest.Config{File: filepath.Join(dir, "plc.jsonl")})).Client()
	club := must(pds.New(pds.Config{
		URL:         url,
		Development: true,
		Store:       db.Store(),
		Secrets:     must(pds.ReadSecrets(filepath.Join(dir, "secrets.json"))),
		Directory:   directory,
		Policy:      server.Policy{Domains: []string{".club.test"}, Admit: members},
		AppView:     view,
	}))
	club.Mux.HandleFunc("GET /about", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "The club's own PDS.") })
	return club
}

func main() {
	dir := "club-data"
	must(0, os.MkdirAll(dir, 0o700))
	club := open(context.Background(), "http://localhost:2590", dir, pds.Bluesky)
	go club.Run(context.Background())
	fmt.Println("http://localhost:2590")
	must(0, http.ListenAndServe("localhost:2590", club))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
