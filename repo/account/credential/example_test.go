package credential_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// openWithAlice returns the credentials of a host with one account.
func openWithAlice(ctx context.Context) *credential.Store {
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	credentials := credential.New(credential.Config{Accounts: accounts})
	hash, err := credentials.HashPassword(ctx, "correct horse")
	if err != nil {
		panic(err)
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	_, err = accounts.Create(ctx, account.Account{
		DID: "did:web:alice.example.com", Handle: "alice.example.com", Email: "alice@example.com", Password: hash,
	}, key, repo.Batch{})
	if err != nil {
		panic(err)
	}
	return credentials
}

// Somebody signs in with a password, and comes back with a token of the session. The token is as
// good as the session: here, it ends with the password.
func Example() {
	ctx := context.Background()
	credentials := openWithAlice(ctx)
	accounts := credentials.Accounts()

	a, err := accounts.Find(ctx, "alice.example.com") // the zero Account if there is none
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		panic(err)
	}
	proof, err := credentials.CheckPassword(ctx, a, "correct horse", true)
	if err != nil {
		panic(err)
	}
	a, session, err := credentials.StartSession(ctx, proof, false)
	if err != nil {
		panic(err)
	}

	// The host signs a token that says this, and verifies the signature.
	who := credentials.Caller(credential.Token{DID: a.DID, Session: session.Name(), Credentials: session.Credentials})
	_, err = accounts.Authenticate(ctx, who)
	fmt.Println(err)

	if _, err := credentials.SetPassword(ctx, who, "battery staple"); err != nil {
		panic(err)
	}
	_, err = accounts.Authenticate(ctx, who)
	fmt.Println(errors.Is(err, account.ErrTokenRevoked))
	// Output:
	// <nil>
	// true
}

// An app gets a password of its own, which can be revoked.
func ExampleStore_CreateAppPassword() {
	ctx := context.Background()
	credentials := openWithAlice(ctx)
	a, err := credentials.Accounts().Find(ctx, "alice.example.com")
	if err != nil {
		panic(err)
	}
	text, _, err := credentials.CreateAppPassword(ctx, account.Trusted(a.DID), "phone", false)
	if err != nil {
		panic(err)
	}
	proof, err := credentials.CheckPassword(ctx, a, text, true)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(text), proof.App.Name)
	if err := credentials.RevokeAppPassword(ctx, account.Trusted(a.DID), "phone"); err != nil {
		panic(err)
	}
	_, _, err = credentials.StartSession(ctx, proof, false)
	fmt.Println(errors.Is(err, credential.ErrWrongPassword))
	// Output:
	// 19 phone
	// true
}

// Whoever can read the account's mail can set another password.
func ExampleStore_ResetPassword() {
	ctx := context.Background()
	credentials := openWithAlice(ctx)
	a, err := credentials.Accounts().Find(ctx, "alice@example.com")
	if err != nil {
		panic(err)
	}
	token, a, err := credentials.NewMailToken(ctx, account.Trusted(a.DID), credential.ForPasswordReset)
	if err != nil {
		panic(err)
	}
	fmt.Println("mail to", a.Email)

	fmt.Println(credentials.ResetPassword(ctx, token, "battery staple"))
	err = credentials.ResetPassword(ctx, token, "once more")
	fmt.Println(errors.Is(err, credential.ErrMailToken))
	// Output:
	// mail to alice@example.com
	// <nil>
	// true
}
