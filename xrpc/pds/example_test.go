package pds_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// A server in memory, for accounts of one company.
func Example() {
	rotation, _ := crypto.GenerateKey(crypto.K256)
	directory, _ := plctest.New(plctest.Config{}) // did:plc for development
	srv, err := pds.New(pds.Config{
		URL:         "http://localhost:2583",
		Development: true,
		Store:       memory.New(memory.Config{}),
		Secrets:     pds.Secrets{MasterKeys: [][]byte{make([]byte, 32)}, RotationKeys: []crypto.Signer{rotation}},
		Directory:   directory.Client(),
		Policy: server.Policy{
			Domains: []string{".corp.test"},
			Admit: func(_ context.Context, _ *xrpc.Request, n server.NewAccount) error {
				if !strings.HasSuffix(n.Email, "@corp.example") {
					return &xrpc.Error{Status: http.StatusForbidden, Name: "NotAnEmployee", Message: "Accounts are for employees"}
				}
				return nil
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go srv.Run(ctx)
	web := httptest.NewServer(srv)
	defer web.Close()

	client := &xrpc.Client{Host: web.URL}
	for handle, email := range map[syntax.Handle]string{"mallory.corp.test": "mallory@example.com", "alice.corp.test": "alice@corp.example"} {
		_, err := api.ServerCreateAccount(ctx, client, api.ServerCreateAccountInput{Handle: handle, Email: email, Password: "a long password"})
		fmt.Println(handle, "-", err)
	}
	// Unordered output:
	// mallory.corp.test - xrpc: 403 NotAnEmployee: Accounts are for employees
	// alice.corp.test - <nil>
}
