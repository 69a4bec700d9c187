package account_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

func open() *account.Store {
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	if err := accounts.Repair(context.Background()); err != nil {
		panic(err)
	}
	return accounts
}

// An account is made in one transaction with its repository. Its names are its own from then on.
func Example() {
	ctx := context.Background()
	accounts := open()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	_, err = accounts.Create(ctx, account.Account{
		DID: "did:web:alice.example.com", Handle: "alice.example.com", Email: "alice@example.com",
	}, key, repo.Batch{})
	if err != nil {
		panic(err)
	}
	a, err := accounts.Find(ctx, "Alice@example.com")
	if err != nil {
		panic(err)
	}
	fmt.Println(a.DID, a.Handle, a.Status() == account.Active)

	_, err = accounts.Create(ctx, account.Account{DID: "did:web:mallory.example.com", Handle: "alice.example.com"}, key, repo.Batch{})
	fmt.Println(errors.Is(err, account.ErrHandleTaken))
	// Output:
	// did:web:alice.example.com alice.example.com true
	// true
}

// The names are held while the DID is registered, and given up if that fails.
func ExampleStore_Reserve() {
	ctx := context.Background()
	accounts := open()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	registerDID := func(syntax.DID) error { return errors.New("the directory does not answer") }

	a := account.Account{DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Handle: "alice.example.com", Email: "alice@example.com"}
	reserved, err := accounts.Reserve(ctx, a)
	if err != nil {
		panic(err)
	}
	if err = registerDID(a.DID); err == nil {
		_, err = reserved.Create(ctx, key, repo.Batch{})
	}
	if err != nil {
		fmt.Println(err)
		if err := reserved.Release(ctx); err != nil {
			panic(err)
		}
	}
	_, err = accounts.Find(ctx, "alice.example.com")
	fmt.Println(errors.Is(err, account.ErrNotFound))
	// Output:
	// the directory does not answer
	// true
}

// A takedown ends everything that was given to the account's owner, at once.
func ExampleStore_TakeDown() {
	ctx := context.Background()
	accounts := open()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	did := syntax.DID("did:web:alice.example.com")
	if _, err := accounts.Create(ctx, account.Account{DID: did, Handle: "alice.example.com"}, key, repo.Batch{}); err != nil {
		panic(err)
	}
	before, err := accounts.ByDID(ctx, did)
	if err != nil {
		panic(err)
	}
	if err := accounts.TakeDown(ctx, did, account.Takedown{Applied: true, Ref: "case 1"}); err != nil {
		panic(err)
	}
	now, err := accounts.ByDID(ctx, did)
	if err != nil {
		panic(err)
	}
	fmt.Println(now.Status(), now.Credentials > before.Credentials)
	for ev, err := range accounts.Host().Store().Events.Since(ctx, 0) {
		if err != nil {
			panic(err)
		}
		fmt.Println(ev.Kind)
	}
	// Output:
	// takendown true
	// #identity
	// #account
	// #commit
	// #sync
	// #account
}
