package provider

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// CountSessions returns how many sessions of apps an account has. The error is account.ErrNotFound
// if there is no such account.
func (p *Provider) CountSessions(ctx context.Context, did syntax.DID) (int, error) {
	list, err := p.Sessions(ctx, did)
	return len(list), err
}
