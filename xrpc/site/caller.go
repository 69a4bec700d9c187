package site

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// As says in which role a browser acts for an account.
type As struct {
	// Request is the app's request in which it acts. A sign-in for a single request is valid only
	// there. Empty: none, as on the account's own pages.
	Request string
	// Fresh, if not 0, is the maximum age of the owner's last proof of identity: see ErrStale.
	Fresh time.Duration
}

// ErrStale: for this action, the account's owner must sign in again.
var ErrStale = errors.New("site: the sign-in is too old for that")

// Caller returns the caller for an account in a browser. It is valid as long as the account is
// signed in there. Otherwise its changes fail with account.ErrTokenRevoked or ErrStale.
func (s *Site) Caller(b Browser, did syntax.DID, as As) account.Caller {
	id := Hash(b.Name)
	known := b.device != nil && !b.stale && slices.Contains(b.device.Accounts, did)
	return account.NewCaller(did, sessionName(id), func(ctx context.Context, r storage.KVReader, a account.Account) ([]storage.KVCheck, error) {
		if !known {
			return nil, account.ErrTokenRevoked
		}
		x, doc, err := readSignIn(ctx, r, id)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return nil, account.ErrTokenRevoked
		case err != nil:
			return nil, err
		case x.Credentials != a.Credentials:
			return nil, a.Ended(x.Credentials)
		case !s.now().Before(x.Expires) || x.Request != "" && x.Request != as.Request:
			return nil, account.ErrTokenRevoked
		case a.Status() == account.TakenDown:
			return nil, account.ErrTakenDown
		case as.Fresh != 0 && !x.shown(id).Within(as.Fresh, s.now()):
			return nil, ErrStale
		}
		return []storage.KVCheck{{Key: devicePrefix + id, Value: doc}}, nil
	})
}

// sessionName is how the caller of a browser is named, for what is to outlast a change of the
// account's credentials: see [account.Kept]. No session of other packages has a colon in its name.
func sessionName(id string) string { return "browser:" + id }

// SignIn returns an account and its sign-in in a browser. If the account is not signed in there, or
// only for a single request of an app, the error is account.ErrTokenRevoked.
func (s *Site) SignIn(ctx context.Context, b Browser, did syntax.DID) (a account.Account, in SignIn, err error) {
	id := Hash(b.Name)
	err = s.accounts.View(ctx, s.Caller(b, did, As{}), func(found account.Account, kv storage.KVReader) error {
		a = found
		x, _, err := readSignIn(ctx, kv, id)
		in = x.shown(id)
		return err
	})
	return a, in, err
}

// raised ends the sign-ins of an account whose counter is raised, but for that of who has asked for
// it.
func raised(ctx context.Context, a account.Account, step *repo.Step, keep account.Kept) error {
	for pair, err := range step.Keys(ctx, storage.Prefix(devicePrefix)) {
		if err != nil {
			return err
		}
		if keep.Session != sessionName(strings.TrimPrefix(pair.Key, devicePrefix)) {
			step.Remove(pair.Key)
			continue
		}
		var x signInRecord
		if err := exactjson.UnmarshalPlain(pair.Value, &x); err != nil {
			return err
		}
		if x.Credentials != a.Credentials-1 {
			step.Remove(pair.Key)
			continue
		}
		x.Credentials = a.Credentials
		doc, err := json.Marshal(x)
		if err != nil {
			return err
		}
		step.Expect(pair.Key, pair.Value)
		step.Set(pair.Key, doc, x.Expires)
	}
	return nil
}
