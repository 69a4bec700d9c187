package provider

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// CountSessions returns the number of sessions of apps with an account. If there is no such
// account, the error is account.ErrNotFound.
func (p *Provider) CountSessions(ctx context.Context, did syntax.DID) (int, error) {
	list, err := p.Sessions(ctx, did)
	return len(list), err
}
