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

// As says as what a browser is to act for an account.
type As struct {
	// Request is the request of an app that it acts in. A sign-in that is good for one request is
	// good in that. Empty: it acts in none, as on the account's own pages.
	Request string
	// Fresh, if not 0, is how long ago the account's owner may have proved to be it: see ErrStale.
	Fresh time.Duration
}

// ErrStale: the account's owner must prove to be it once more, for what is to be done.
var ErrStale = errors.New("site: the sign-in is too old for that")

// Caller is who acts for an account in a browser. It is good as long as the account is signed in
// there: otherwise its changes fail with account.ErrTokenRevoked, or ErrStale.
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
		case as.Fresh != 0 && s.now().Sub(x.At) > as.Fresh:
			return nil, ErrStale
		}
		return []storage.KVCheck{{Key: devicePrefix + id, Value: doc}}, nil
	})
}

// sessionName is how the caller of a browser is named, for what is to outlast a change of the
// account's credentials: see [account.Kept]. No session of other packages has a colon in its name.
func sessionName(id string) string { return "browser:" + id }

// SignIn returns an account and its sign-in in a browser. The error is account.ErrTokenRevoked if
// the account is not signed in there, or is signed in for one request of an app only.
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
