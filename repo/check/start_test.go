package check_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// viewed counts the accounts that are looked at.
type viewed struct {
	storage.Repos
	n int
}

func (v *viewed) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	v.n++
	return v.Repos.View(ctx, did, fn)
}

// A server with very many accounts does not look at all of them when it starts, unless blobs are
// missing and it has found none.
func TestStartLooksAtFewAccounts(t *testing.T) {
	ctx := t.Context()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	s := memory.New(memory.Config{})
	h := repo.NewHost(repo.Config{Store: s, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	const accounts = 2500
	did := func(n int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:a%04d.example", n)) }
	for n := range accounts {
		if _, err := h.Create(ctx, did(n), repo.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	post := func(n int) storage.BlobInfo {
		info, err := h.UploadBlob(ctx, did(n), "text/plain", strings.NewReader("blob"), 0)
		if err != nil {
			t.Fatal(err)
		}
		record, err := data.Encode(map[string]any{"$type": "com.example.post", "b": data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}.Value()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Apply(ctx, did(n), repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: "com.example.post", RKey: "1", Record: record}}}); err != nil {
			t.Fatal(err)
		}
		return info
	}
	look := func(most int, want error) {
		t.Helper()
		v := &viewed{Repos: s.Repos}
		c := check.Checker{Store: s}
		c.Store.Repos = v
		if err := c.BlobsThere(ctx); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		if v.n > most {
			t.Errorf("%d accounts were looked at, %d would do", v.n, most)
		}
	}
	look(2000, nil) // there are no blobs at all
	first, last := post(10), post(accounts-1)
	look(11, nil)
	if err := s.Blobs.Delete(ctx, did(10), first.CID); err != nil {
		t.Fatal(err)
	}
	look(accounts, nil) // one is lost, one is there
	if err := s.Blobs.Delete(ctx, did(accounts-1), last.CID); err != nil {
		t.Fatal(err)
	}
	look(accounts, check.ErrNoBlobs)
	c := check.Checker{Store: s, Incomplete: func(context.Context, syntax.DID) (bool, error) { return true, nil }}
	if err := c.BlobsThere(ctx); err != nil {
		t.Errorf("of accounts that are not complete: %v", err)
	}
}
