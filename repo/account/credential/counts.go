package credential

import (
	"context"

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// Counts returns the number of sessions and of app passwords of an account. Void ones, as after a
// change of the password, are counted until they are deleted.
func (s *Store) Counts(ctx context.Context, did syntax.DID) (sessions, apps int, err error) {
	err = s.accounts.View(ctx, account.Trusted(did), func(_ account.Account, r storage.KVReader) (err error) {
		if sessions, err = storedjson.Count(ctx, r, sessionPrefix); err == nil {
			apps, err = storedjson.Count(ctx, r, appPasswordPrefix)
		}
		return err
	})
	return sessions, apps, err
}
