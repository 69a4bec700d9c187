package credential

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// A Token holds the claims of a session's token whose signature has been verified.
type Token struct {
	DID syntax.DID
	// Credentials is the value of the account's counter when the token was made.
	Credentials int64
	// Session is the name of the token's session. Tokens of early versions have none: they are
	// valid as long as the counter does not change.
	Session string
	// TakenDown accepts the token although the account is taken down.
	TakenDown bool
}

// Caller returns the caller of a token. The caller is valid while the session lasts and the counter
// has the token's value.
func (s *Store) Caller(t Token) account.Caller {
	return account.NewCaller(t.DID, t.Session, func(ctx context.Context, r storage.KVReader, a account.Account) ([]storage.KVCheck, error) {
		under, good := t.Credentials, t.Credentials == a.Credentials
		var checks []storage.KVCheck
		if t.Session != "" {
			// The session says under which value it is now: it may have been kept by a change that
			// ended the others.
			x, text, err := s.term(ctx, r, t.Session)
			switch {
			case errors.Is(err, storage.ErrNotFound), err == nil && !s.now().Before(x.expires):
				return nil, account.ErrTokenRevoked // whatever has become of the account since
			case err != nil:
				return nil, err
			}
			under, good = x.credentials, x.credentials == a.Credentials
			checks = []storage.KVCheck{{Key: sessionPrefix + t.Session, Value: text}}
		}
		switch {
		case !good:
			return nil, a.Ended(under)
		case a.TakedownRef != "" && !t.TakenDown:
			return nil, account.ErrTakenDown
		}
		return checks, nil
	})
}

// raised carries over what is kept when a counter is raised, and deletes the other sessions and
// app passwords. Sessions of which a trace is kept stay as they are, which is void: they expire, or
// are deleted when the counter is raised again.
func raised(ctx context.Context, a account.Account, step *repo.Step, keep account.Kept) error {
	for x, err := range storedjson.Documents[chain](ctx, step, sessionPrefix) {
		if err != nil {
			return err
		}
		write := storage.KVWrite{Key: x.Key}
		if keep.Traces && x.Value.Credentials == a.Credentials-1 {
			continue
		}
		kept := keep.Session != "" && x.Key == sessionPrefix+keep.Session || keep.Apps && x.Value.AppPassword != ""
		if kept && x.Value.Credentials == a.Credentials-1 {
			step.Expect(x.Key, x.Text)
			x.Value.Credentials = a.Credentials
			if write, err = x.Value.write(strings.TrimPrefix(x.Key, sessionPrefix)); err != nil {
				return err
			}
		}
		step.KV = append(step.KV, write)
	}
	for p, err := range storedjson.Documents[AppPassword](ctx, step, appPasswordPrefix) {
		if err != nil {
			return err
		}
		write := storage.KVWrite{Key: p.Key}
		if keep.AppPasswords && p.Value.Credentials == a.Credentials-1 {
			p.Value.Credentials = a.Credentials
			if write.Value, err = json.Marshal(p.Value); err != nil {
				return err
			}
		}
		step.KV = append(step.KV, write)
	}
	return nil
}
