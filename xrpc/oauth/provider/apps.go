package provider

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Session is a session of an app, as shown to the owner of the account.
type Session struct {
	// Name identifies the session within the account. It is no secret: it can only be used to end
	// the session.
	Name string
	// Client is the client_id.
	Client string
	// Granted is what the account has granted. Permissions is what the app may do: Granted with the
	// contents of its permission sets, as of the last renewal.
	Granted, Permissions auth.Permissions
	// Created is when the session began. Renewed is when the app last renewed it. Apps renew
	// sessions while they use them, so this is when it was last used, within a quarter of an hour.
	// Ends is when it ends if it is not renewed.
	Created, Renewed, Ends time.Time
}

// Apps lists and ends the sessions of apps with the accounts of a store, for their owners. It needs
// no Provider, so a command line can use it while servers run over the same store. It is safe for
// concurrent use.
type Apps struct {
	Accounts *account.Store
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Sessions returns the sessions of a caller's account, the last renewed first. If there is no such
// account, the error is account.ErrNotFound.
func (x Apps) Sessions(ctx context.Context, who account.Caller) (list []Session, err error) {
	now := time.Now()
	if x.Now != nil {
		now = x.Now()
	}
	err = x.Accounts.View(ctx, who, func(a account.Account, r storage.KVReader) error {
		list = nil
		for s, err := range stored(ctx, r, parseSession) {
			if err != nil {
				return err
			}
			if s.Credentials != a.Credentials || !now.Before(s.ends()) {
				continue
			}
			granted, _ := auth.ParseScopes(s.Scope)
			list = append(list, Session{
				Name: strings.TrimPrefix(s.key, sessionPrefix), Client: s.Client, Granted: granted, Permissions: s.permissions,
				Created: s.Created, Renewed: s.Renewed, Ends: s.ends(),
			})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Session) int { return b.Renewed.Compare(a.Renewed) })
	return list, err
}

// EndSession ends a session of the caller's account. An unknown one is not an error.
func (x Apps) EndSession(ctx context.Context, who account.Caller, name string) error {
	_, err := x.Accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(sessionPrefix + name)
		return nil
	})
	return err
}

// EndClient ends all sessions of an app with the caller's account, and deletes what was granted to
// it. Codes that the app has not exchanged yet become void.
func (x Apps) EndClient(ctx context.Context, who account.Caller, clientID string) error {
	_, err := x.Accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(grantPrefix + digest.Hash(clientID))
		for s, err := range stored(ctx, step, parseSession) {
			if err != nil {
				return err
			}
			if s.Client == clientID {
				step.Remove(s.key)
			}
		}
		return endCodes(ctx, step, clientID)
	})
	return err
}

// EndAll ends all sessions of all apps with the caller's account, and deletes codes and grants.
func (x Apps) EndAll(ctx context.Context, who account.Caller) error {
	_, err := x.Accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		return raised(ctx, *a, step, account.Kept{})
	})
	return err
}

// Apps returns the sessions of the provider's accounts.
func (p *Provider) Apps() Apps { return Apps{Accounts: p.accounts, Now: p.now} }

// Sessions returns the sessions of an account: see [Apps.Sessions].
func (p *Provider) Sessions(ctx context.Context, did syntax.DID) ([]Session, error) {
	return p.Apps().Sessions(ctx, account.Trusted(did))
}

// EndSession ends a session: see [Apps.EndSession].
func (p *Provider) EndSession(ctx context.Context, who account.Caller, name string) error {
	return p.Apps().EndSession(ctx, who, name)
}

// EndClient ends all sessions of an app: see [Apps.EndClient].
func (p *Provider) EndClient(ctx context.Context, who account.Caller, clientID string) error {
	return p.Apps().EndClient(ctx, who, clientID)
}

// storedSession is a session under its key.
type storedSession struct {
	key string
	*session
}

// stored yields the sessions of an account. Those of a later version of this package are left out.
func stored(ctx context.Context, r storage.KVReader, parse func([]byte) (*session, error)) iter.Seq2[storedSession, error] {
	return func(yield func(storedSession, error) bool) {
		for pair, err := range r.Keys(ctx, storage.Prefix(sessionPrefix)) {
			var x *session
			if err == nil {
				x, err = parse(pair.Value)
			}
			if errors.Is(err, errVersion) {
				continue
			}
			if !yield(storedSession{pair.Key, x}, err) || err != nil {
				return
			}
		}
	}
}
