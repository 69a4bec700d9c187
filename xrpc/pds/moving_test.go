package pds

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// An account that is not active may upload as for a move, which anybody can pretend: so what it may
// have is bounded where there is no quota. That of the configuration counts for all.
func TestBlobsOfAnAccountThatIsNotActive(t *testing.T) {
	ctx := t.Context()
	cfg := goodConfig(t)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const active, moving = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	for did, since := range map[syntax.DID]time.Time{active: {}, moving: time.Now().UTC()} {
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			t.Fatal(err)
		}
		a := account.Account{DID: did, Handle: syntax.Handle(string(did[8:12]) + ".test"), DeactivatedAt: since}
		if _, err := s.Accounts.Create(ctx, a, key, repo.Batch{}); err != nil {
			t.Fatal(err)
		}
		for i := range movingUnused + 1 {
			_, err := s.Host.UploadBlob(ctx, did, "text/plain", strings.NewReader(fmt.Sprint(i)), 0)
			if full := did == moving && i == movingUnused; full != errors.Is(err, repo.ErrUnusedBlobs) || !full && err != nil {
				t.Fatalf("blob %d of %s: %v", i, did, err)
			}
		}
	}
	quotas := func(want map[syntax.DID]int64) {
		t.Helper()
		for did, want := range want {
			if got, err := s.blobQuota(ctx, did); got != want || err != nil {
				t.Errorf("%s has %d, %v", did, got, err)
			}
		}
	}
	quotas(map[syntax.DID]int64{active: 0, moving: 32 << 30, "did:plc:cccccccccccccccccccccccc": 0})
	s.cfg.BlobQuota = 100
	quotas(map[syntax.DID]int64{active: 100, moving: 100})
}
