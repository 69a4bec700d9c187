package server_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/session"
)

// printer is a Mailer.
type printer struct{}

func (printer) Send(_ context.Context, m server.Mail) error {
	fmt.Printf("%s to %s: %s\n", m.Kind, m.To, m.Subject)
	return nil
}

// A host serves accounts, and admits members only. Its directory of DIDs is one for tests.
func Example() {
	directory, err := plctest.New(plctest.Config{})
	if err != nil {
		panic(err)
	}
	plc := httptest.NewServer(directory)
	defer plc.Close()
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}

	store := memory.New(memory.Config{})
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: store}, box)
	credentials := credential.New(credential.Config{Accounts: accounts, Enter: session.HashQueue()})
	dids := &identity.PLCClient{URL: plc.URL}
	sessions := session.New(session.Config{
		Credentials: credentials, Key: []byte("random bytes that stay the same"), Resolver: &identity.Resolver{PLC: dids},
		ServiceDID: "did:web:pds.example.com", URL: "https://pds.example.com",
	})
	svc := server.New(server.Config{
		Sessions:  sessions,
		Directory: dids, RotationKeys: []crypto.Signer{rotation}, Mailer: printer{},
		Policy: server.Policy{
			Domains: []string{".pds.example.com"},
			Admit: func(_ context.Context, _ *xrpc.Request, n server.NewAccount) error {
				if !strings.HasSuffix(n.Email, "@example.com") {
					return xrpc.InvalidRequest("This server is for members of example.com")
				}
				return nil
			},
		},
	})
	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
	srv.Handle(sessions.Routes()...)
	srv.Handle(svc.Routes()...)
	front := httptest.NewServer(srv)
	defer front.Close()

	ctx := context.Background()
	client := &xrpc.Client{Host: front.URL}
	in := map[string]string{"handle": "alice.pds.example.com", "password": "correct horse", "email": "alice@example.org"}
	fmt.Println(client.Procedure(ctx, "com.atproto.server.createAccount", in, nil))

	in["email"] = "alice@example.com"
	var out struct {
		Handle    string `json:"handle"`
		AccessJWT string `json:"accessJwt"`
	}
	err = client.Procedure(ctx, "com.atproto.server.createAccount", in, &out)
	fmt.Println(out.Handle, err)

	client.Authorize = xrpc.Bearer(out.AccessJWT)
	if err := client.Procedure(ctx, "com.atproto.server.requestEmailConfirmation", nil, nil); err != nil {
		panic(err)
	}
	// Output:
	// xrpc: 400 InvalidRequest: This server is for members of example.com
	// alice.pds.example.com <nil>
	// confirm_email to alice@example.com: Confirm your e-mail address (pds.example.com)
}
