//go:build !nopasskeys && !nopages

package passkey_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/passkey"
)

// A page gets options for the browser, and sends back what the authenticator has answered.
func Example() {
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	passkeys := passkey.New(passkey.Config{
		Credentials: credential.New(credential.Config{Accounts: accounts}),
		URL:         "https://pds.example.com",
	})

	ctx := context.Background()
	device := "what the device's cookie says"
	options, err := passkeys.BeginLogin(ctx, device)
	if err != nil {
		panic(err)
	}
	var shown struct{ RPID, UserVerification string }
	if err := json.Unmarshal(options, &shown); err != nil {
		panic(err)
	}
	fmt.Println(shown.RPID, shown.UserVerification)

	_, err = passkeys.FinishLogin(ctx, device, []byte(`{"not": "an answer"}`))
	fmt.Println(errors.Is(err, passkey.ErrRefused))
	// Output:
	// pds.example.com required
	// true
}
