// Package seed fills a data directory with accounts, for tests and measurements, without a network
// and without the cost of hashing passwords.
package seed

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// Collection is that of the records.
const Collection = "com.example.note"

// Seed says what each account gets.
type Seed struct {
	// Domain of the handles, with a leading dot. Empty: .test.
	Domain string
	// Password is the hash of every account's password. Empty: nobody can log in.
	Password string
	// Service is the server's address in the accounts' DIDs. They are not registered anywhere.
	Service string
	// Records and Blobs are how many there are; each blob is in a record of its own.
	Records, Blobs int
	// Size is the length in bytes of each record's text. 0: that of a usual post.
	Size int
	// Created, if not nil, is given each account with its key, which is its rotation key too, and
	// the operation that creates its DID.
	Created func(a account.Account, key *crypto.PrivateKey, op *identity.PLCOperation) error
}

// A commit has at most so many records, and about so many bytes of them.
const (
	perCommit   = 100
	commitBytes = 1_000_000
)

// Account makes the account of a number, with the handle userN.
func (s Seed) Account(ctx context.Context, accounts *account.Store, n int) (account.Account, error) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return account.Account{}, err
	}
	domain := s.Domain
	if domain == "" {
		domain = ".test"
	}
	handle := syntax.Handle(fmt.Sprintf("user%d%s", n, domain))
	op := identity.NewPLCOperation(handle, s.Service, key.PublicKey(), key.PublicKey())
	if err := op.Sign(ctx, key); err != nil {
		return account.Account{}, err
	}
	did, err := op.DID()
	if err != nil {
		return account.Account{}, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	a := account.Account{DID: did, Handle: handle, Email: fmt.Sprintf("user%d@example.com", n), Password: s.Password, Created: now}
	if _, err = accounts.Create(ctx, a, key, repo.Batch{}); err != nil {
		return a, err
	}
	if s.Created != nil {
		if err := s.Created(a, key, op); err != nil {
			return a, err
		}
	}
	return a, s.fill(ctx, accounts.Host(), did)
}

// fill writes the records and blobs of an account.
func (s Seed) fill(ctx context.Context, host *repo.Host, did syntax.DID) error {
	var batch repo.Batch
	size := 0
	flush := func() error {
		_, err := host.Apply(ctx, did, batch)
		batch.Writes, size = nil, 0
		return err
	}
	add := func(value map[string]any) error {
		cbor, err := data.Encode(value)
		if err != nil {
			return err
		}
		batch.Writes = append(batch.Writes, repo.Write{Action: repo.Create, Collection: Collection, RKey: host.NextRecordKey(), Record: cbor})
		if size += len(cbor); len(batch.Writes) == perCommit || size+len(cbor) > commitBytes {
			return flush()
		}
		return nil
	}
	for i := range s.Records {
		text := fmt.Sprintf("Note %d of %s, long enough to be like a post that somebody has written.", i, did)
		text += strings.Repeat("x", max(0, s.Size-len(text)))
		if err := add(map[string]any{"$type": Collection, "text": text, "n": int64(i)}); err != nil {
			return err
		}
	}
	for i := range s.Blobs {
		text := fmt.Sprintf("blob %d of %s", i, did)
		info, err := host.UploadBlob(ctx, did, "text/plain", bytes.NewReader([]byte(text)), 0)
		if err != nil {
			return err
		}
		blob := data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}
		if err := add(map[string]any{"$type": Collection, "file": blob.Value()}); err != nil {
			return err
		}
	}
	if len(batch.Writes) == 0 {
		return nil
	}
	return flush()
}
