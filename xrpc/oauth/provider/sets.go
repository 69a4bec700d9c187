package provider

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/resolve"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Published are the permission sets that are published over the network: see package resolve, whose
// Resolver keeps them and bounds how long they are believed.
type Published struct {
	Schemas *resolve.Resolver
}

// Expand implements [Sets]. A set grants nothing but records and methods of its own group of NSIDs:
// the entries that say more are left out as a whole. Errors are those of [resolve.Resolver].
func (p Published) Expand(ctx context.Context, include auth.Scope) ([]auth.Scope, error) {
	id, audience, _ := include.Include()
	set, err := p.Schemas.PermissionSet(ctx, id)
	if err != nil {
		return nil, err
	}
	grants, _ := set.Grants(id, audience)
	scopes := make([]auth.Scope, 0, len(grants))
	for _, g := range grants {
		// A grant that is no scope says more than there can be, such as all methods of all services.
		if s, err := auth.ParseScope(g.Scope()); err == nil {
			scopes = append(scopes, s)
		}
	}
	return scopes, nil
}
