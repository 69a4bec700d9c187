package archive_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/archive"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// An account is written to a file, which is read again, and put back.
func Example() {
	ctx := context.Background()
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	check(err)
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	key, err := crypto.GenerateKey(crypto.K256)
	check(err)
	_, err = accounts.Create(ctx, account.Account{DID: alice, Handle: "alice.example.com"}, key, repo.Batch{})
	check(err)

	dir, err := os.MkdirTemp("", "archive-*")
	check(err)
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "alice.tar")
	_, err = archive.ToFile(ctx, accounts, alice, file, archive.Options{})
	check(err)
	m, err := archive.Verify(ctx, file, archive.Options{Key: key.PublicKey()})
	check(err)
	fmt.Println(m.Handle, m.Records, len(m.Blobs))
	res, err := archive.Import(ctx, accounts, file, archive.Options{})
	check(err)
	fmt.Println(res.Rev > m.Rev)
	// Output:
	// alice.example.com 0 0
	// true
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
