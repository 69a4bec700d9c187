// Package seed fills a data directory with accounts, without a network and without the cost of
// hashing passwords: for tests and for measuring.
package seed

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
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
}

// perCommit is how many records a commit has.
const perCommit = 100

// Account makes the account of a number, with the handle userN.
func (s Seed) Account(ctx context.Context, store *accounts.Store, host *repo.Host, n int) (accounts.Account, error) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return accounts.Account{}, err
	}
	domain := s.Domain
	if domain == "" {
		domain = ".test"
	}
	handle := syntax.Handle(fmt.Sprintf("user%d%s", n, domain))
	op := identity.NewPLCOperation(handle, s.Service, key.PublicKey(), key.PublicKey())
	if err := op.Sign(ctx, key); err != nil {
		return accounts.Account{}, err
	}
	did, err := op.DID()
	if err != nil {
		return accounts.Account{}, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	a := accounts.Account{DID: did, Handle: handle, Email: fmt.Sprintf("user%d@example.com", n), Password: s.Password, Created: now}
	if err := store.Reserve(ctx, a); err != nil {
		return a, err
	}
	_, err = store.Create(ctx, host, a, key, repo.Batch{Sync: true, Events: []storage.Event{
		{DID: did, Kind: commit.KindIdentity, Time: now, Payload: (&commit.Identity{DID: did, Handle: handle, Time: now}).Payload()},
		{DID: did, Kind: commit.KindAccount, Time: now, Payload: (&commit.Account{DID: did, Active: true, Time: now}).Payload()},
	}})
	if err != nil {
		return a, err
	}
	return a, s.fill(ctx, host, did)
}

// fill writes the records and blobs of an account.
func (s Seed) fill(ctx context.Context, host *repo.Host, did syntax.DID) error {
	var batch repo.Batch
	flush := func() error {
		_, err := host.Apply(ctx, did, batch)
		batch.Writes = nil
		return err
	}
	add := func(value map[string]any) error {
		cbor, err := data.Encode(value)
		if err != nil {
			return err
		}
		batch.Writes = append(batch.Writes, repo.Write{Action: repo.Create, Collection: Collection, RKey: host.NextRecordKey(), Record: cbor})
		if len(batch.Writes) == perCommit {
			return flush()
		}
		return nil
	}
	for i := range s.Records {
		if err := add(map[string]any{"$type": Collection, "text": fmt.Sprintf("Note %d of %s, long enough to be like a post that somebody has written.", i, did), "n": int64(i)}); err != nil {
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
