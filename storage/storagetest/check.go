package storagetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	whole "github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
)

// Options are the options of [CheckStore].
type Options struct {
	// Key returns an account's signing key, or nil to skip the account's signatures. Nil: no
	// signatures are checked.
	Key func(did syntax.DID) *crypto.PublicKey
	// Silent allows commits without an event (see repo.Batch).
	Silent bool
	// Blobs checks that exactly those blobs are promoted that records refer to. After an import
	// some are missing, and before a sweep there are more.
	Blobs bool
}

// CheckStore reads everything in a store, as package check does in its strict mode. It returns all
// contradictions, joined; each is an error that wraps storage.ErrCorrupt. Nobody should write to
// the store meanwhile. Parts of the store that are nil are left out.
func CheckStore(ctx context.Context, s storage.Store, opt Options) error {
	c := whole.Checker{Store: s}
	if opt.Key != nil {
		c.Key = func(_ context.Context, did syntax.DID) (*crypto.PublicKey, error) { return opt.Key(did), nil }
	}
	o := whole.Options{Strict: true, Silent: opt.Silent}
	if !opt.Blobs {
		o.Blobs = whole.NoBlobs
	}
	report, err := c.Run(ctx, o)
	errs := []error{err}
	for _, p := range report.Problems {
		errs = append(errs, fmt.Errorf("%w: %s", storage.ErrCorrupt, p))
	}
	return errors.Join(errs...)
}
