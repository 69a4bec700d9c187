package credential

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// Notice is a notification for the owner of an account. Exactly one of its fields is set.
type Notice struct {
	Token  *TokenNotice
	Change *Change
	Factor *FactorChange
}

// TokenNotice is a token to be sent by mail to the address of an account.
type TokenNotice struct {
	Account account.Account
	Purpose Purpose
	Token   string
}

// Notices delivers notifications to owners. A notification is written in the atomic change that
// causes it. So it is delivered if and only if the change was made, even if the process dies. See
// Config.Notices.
type Notices interface {
	// Announce is called before a change that may write a notification. Its error prevents the
	// change. end is called after the change, whether it was made or not.
	Announce(ctx context.Context, did syntax.DID) (end func(), err error)
	// Write adds a notification to a change. It is called in the transaction's function, perhaps
	// several times, each time with a new Step. Only the last Step counts.
	Write(ctx context.Context, step *repo.Step, n Notice) error
}

// announce announces a change that may have a notice.
func (s *Store) announce(ctx context.Context, did syntax.DID) (end func(), err error) {
	if s.notices == nil {
		return func() {}, nil
	}
	return s.notices.Announce(ctx, did)
}

// note writes a notice with a change.
func (s *Store) note(ctx context.Context, step *repo.Step, n Notice) error {
	if s.notices == nil {
		return nil
	}
	switch {
	case n.Change != nil:
		n.Change.At = s.present()
	case n.Factor != nil:
		n.Factor.At = s.present()
	}
	return s.notices.Write(ctx, step, n)
}
