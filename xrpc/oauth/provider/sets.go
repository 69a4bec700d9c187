package provider

import (
	"context"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/resolve"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Published resolves permission sets that are published over the network. Its resolver caches them
// and bounds how long they are used: see package resolve.
type Published struct {
	Schemas *resolve.Resolver
}

var _ SetWords = Published{}

// Expand implements [Sets]. A set can grant only records and methods of its own group of NSIDs.
// Entries that contain others are ignored as a whole. Errors are those of [resolve.Resolver].
func (p Published) Expand(ctx context.Context, include auth.Scope) ([]auth.Scope, error) {
	id, audience, _ := include.Include()
	set, err := p.Schemas.PermissionSet(ctx, id)
	if err != nil {
		return nil, err
	}
	grants, _ := set.Grants(id, audience)
	scopes := make([]auth.Scope, 0, len(grants))
	for _, g := range grants {
		// A grant that is no scope says more than there can be, such as all methods of all
		// services.
		if s, err := auth.ParseScope(g.Scope()); err == nil {
			scopes = append(scopes, s)
		}
	}
	return scopes, nil
}

// SetWords is an optional interface of Sets: it returns what permission sets say of themselves.
type SetWords interface {
	// Words returns the title and the description of a permission set, for an "include:" scope, in
	// the first language that it has. languages is in descending order of preference (BCP 47). Both
	// texts are untrusted, and may be empty.
	Words(ctx context.Context, include auth.Scope, languages []string) (title, detail lexicon.Words, err error)
}

// Words implements [SetWords].
func (p Published) Words(ctx context.Context, include auth.Scope, languages []string) (title, detail lexicon.Words, err error) {
	id, _, _ := include.Include()
	set, err := p.Schemas.PermissionSet(ctx, id)
	if err != nil {
		return title, detail, err
	}
	title, detail = set.Words(languages)
	return title, detail, nil
}
