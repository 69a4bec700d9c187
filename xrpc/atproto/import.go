package atproto

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// importRepo puts the repository of a CAR file in the place of the caller's. The
// account may be deactivated, as it is while it moves here. Followers of an
// active one are told by a #sync event. How many records are from before the rules of the data
// model is noted for the log.
func (s *Service) importRepo(w http.ResponseWriter, r *xrpc.Request) error {
	acct, err := s.Accounts.Account(r.Context(), syntax.AtIdentifier(r.Principal.DID))
	if err != nil || acct.Status == TakenDown || acct.Status == Suspended {
		return accountError(acct, err)
	}
	if t, err := declaredType(r.Header.Get("Content-Type")); err != nil {
		return err
	} else if t != carType {
		return xrpc.InvalidRequest("Wrong request encoding (Content-Type): %s", t)
	}
	in := repo.Import{Sync: acct.Status == Active, Guard: s.guard(r, acct.Status), Limits: s.ImportLimits}
	if s.ImportKeys != nil {
		if in.Keys, err = s.ImportKeys(r.Context(), acct.DID); err != nil {
			return err
		}
	}
	if len(in.Keys) == 0 {
		if !s.UnverifiedImports {
			return xrpc.InvalidRequest("The signature of the repository cannot be checked: no signing key of the account is known")
		}
		in.Unverified = true
	}
	res, err := s.Host.Import(r.Context(), acct.DID, r.Body, in)
	switch {
	case errors.Is(err, repo.ErrInvalidImport):
		return xrpc.InvalidRequest("%s", detail(err, repo.ErrInvalidImport))
	case err != nil:
		return bodyError(writeError(err))
	}
	r.Notes = append(r.Notes, slog.Int("legacyRecords", res.Legacy))
	if res.Ahead != "" {
		r.Notes = append(r.Notes, slog.String("revisionAhead", string(res.Ahead)))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Service) listMissingBlobs(ctx context.Context, r *xrpc.Request, p api.RepoListMissingBlobsParams) (out api.RepoListMissingBlobsOutput, err error) {
	after, err := parseCID(p.Cursor)
	if err != nil {
		return out, xrpc.InvalidRequest("Malformed cursor")
	}
	limit, err := pageLimit(p.Limit, 500, 1000)
	if err != nil {
		return out, err
	}
	did := r.Principal.DID
	refs, next, err := s.Host.MissingBlobs(ctx, did, after, limit)
	if errors.Is(err, repo.ErrRepoNotFound) { // deleted, while the session is still good
		return out, accountError(Account{}, ErrNoAccount)
	} else if err != nil {
		return out, err
	}
	out.Blobs = make([]api.RepoListMissingBlobsRecordBlob, len(refs))
	for i, ref := range refs {
		out.Cursor = ref.Blob.String()
		out.Blobs[i] = api.RepoListMissingBlobsRecordBlob{CID: syntax.CID(out.Cursor), RecordURI: syntax.ATURI("at://" + string(did) + "/" + ref.Path)}
	}
	if next.Defined() {
		out.Cursor = next.String()
	}
	return out, nil
}
