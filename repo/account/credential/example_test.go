package credential_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// An account asks for a code besides its password.
func Example_secondFactor() {
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		panic(err)
	}
	now := time.Now()
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	credentials := credential.New(credential.Config{Accounts: accounts, Now: func() time.Time { return now }})
	ctx := context.Background()
	a := newAccount(ctx, credentials)
	owner := account.Trusted(a.DID) // who is signed in, in a server

	// The owner scans e.QR() or types e.Secret, and enters what the app shows.
	e, err := credentials.BeginApp(ctx, owner, "pds.example.com")
	if err != nil {
		panic(err)
	}
	code, _ := credential.AppCode(e.Secret, now)
	if _, err := credentials.ConfirmApp(ctx, owner, "my phone", code); err != nil {
		panic(err)
	}
	recovery, err := credentials.NewRecoveryCodes(ctx, owner)
	fmt.Println(len(recovery), err)

	proof, err := credentials.CheckPassword(ctx, a, "correct horse", true)
	if err != nil {
		panic(err)
	}
	_, _, err = credentials.StartSession(ctx, proof, false)
	fmt.Println(errors.Is(err, credential.ErrFactorRequired))
	now = now.Add(time.Minute) // each code is good for once
	code, _ = credential.AppCode(e.Secret, now)
	if proof, err = credentials.CheckFactor(ctx, proof, code); err != nil {
		panic(err)
	}
	_, _, err = credentials.StartSession(ctx, proof, false)
	fmt.Println(err)
	// Output:
	// 10 <nil>
	// true
	// <nil>
}

func newAccount(ctx context.Context, credentials *credential.Store) account.Account {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	hash, err := credentials.HashPassword(ctx, "correct horse")
	if err != nil {
		panic(err)
	}
	a := account.Account{DID: "did:web:alice.example.com", Handle: "alice.example.com", Password: hash}
	if _, err = credentials.Accounts().Create(ctx, a, key, repo.Batch{}); err == nil {
		a, err = credentials.Accounts().ByDID(ctx, a.DID)
	}
	if err != nil {
		panic(err)
	}
	return a
}
