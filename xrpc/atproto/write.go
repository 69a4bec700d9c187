package atproto

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Write changes records of a request's caller in one commit, as the methods of this package do. It
// is for a host's own methods. The caller needs the permissions, which Route.Needs must declare,
// and must be within the limits of CountWrites. The account must be active and the session valid;
// the transaction of the change checks both again. Records are not validated against schemas.
// Errors are meant for the client.
func (s *Service) Write(ctx context.Context, r *xrpc.Request, writes ...repo.Write) (repo.Result, error) {
	var demanded []auth.Permission
	var creates, updates, deletes int
	for _, w := range writes {
		collection := string(w.Collection)
		switch w.Action {
		case repo.Create:
			demanded = append(demanded, auth.Write(auth.Create, collection))
			creates++
		case repo.Update:
			demanded = append(demanded, auth.Write(auth.Update, collection))
			updates++
		case repo.Put:
			demanded = append(demanded, auth.Write(auth.Create, collection), auth.Write(auth.Update, collection))
			updates++
		case repo.Delete:
			demanded = append(demanded, auth.Write(auth.Delete, collection))
			deletes++
		}
	}
	if err := r.Demand(demanded...); err != nil {
		return repo.Result{}, err
	}
	did, err := s.writer(ctx, r, syntax.AtIdentifier(r.Principal.DID))
	if err != nil {
		return repo.Result{}, err
	}
	if s.CountWrites != nil {
		if err := s.CountWrites(r, creates, updates, deletes); err != nil {
			return repo.Result{}, err
		}
	}
	res, err := s.Host.Apply(ctx, did, s.batch(r, false, writes...))
	return res, writeError(err)
}
