package atproto

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// metaOf describes the commit of a result; nil if there was none.
func metaOf(res repo.Result) *api.RepoCommitMeta {
	if !res.Changed {
		return nil
	}
	return &api.RepoCommitMeta{CID: syntax.CID(res.Head.Commit.String()), Rev: res.Head.Rev}
}

func (s *Service) createRecord(ctx context.Context, r *xrpc.Request, in api.RepoCreateRecordInput) (out api.RepoCreateRecordOutput, err error) {
	did, err := s.writer(ctx, r, in.Repo)
	if err != nil {
		return out, err
	}
	if err := r.Demand(auth.Write(auth.Create, string(in.Collection))); err != nil {
		return out, err
	}
	if in.RKey == "" {
		in.RKey = s.Host.NextRecordKey()
	}
	rec, err := s.prepare(ctx, in.Collection, in.RKey, r.Input().Member("record"), in.Record, in.Validate)
	if err != nil {
		return out, err
	}
	write := repo.Write{Action: repo.Create, Collection: in.Collection, RKey: in.RKey, Encoded: rec.record}
	batch := s.batch(r, unvalidated(in.Validate), write)
	if batch.SwapCommit, err = parseCID(in.SwapCommit); err != nil {
		return out, err
	}
	res, err := s.Host.Apply(ctx, did, batch)
	if err != nil {
		return out, writeError(err)
	}
	return api.RepoCreateRecordOutput{
		URI:              recordURI(did, in.Collection, in.RKey),
		CID:              syntax.CID(res.Records[0].CID.String()),
		Commit:           metaOf(res),
		ValidationStatus: rec.status,
	}, nil
}

func (s *Service) putRecord(ctx context.Context, r *xrpc.Request, in api.RepoPutRecordInput) (out api.RepoPutRecordOutput, err error) {
	did, err := s.writer(ctx, r, in.Repo)
	if err != nil {
		return out, err
	}
	if err := r.Demand(auth.Write(auth.Create, string(in.Collection)), auth.Write(auth.Update, string(in.Collection))); err != nil {
		return out, err
	}
	rec, err := s.prepare(ctx, in.Collection, in.RKey, r.Input().Member("record"), in.Record, in.Validate)
	if err != nil {
		return out, err
	}
	write := repo.Write{Action: repo.Put, Collection: in.Collection, RKey: in.RKey, Encoded: rec.record}
	if write.Swap, err = parseSwap(in.SwapRecord); err != nil {
		return out, err
	}
	batch := s.batch(r, unvalidated(in.Validate), write)
	if batch.SwapCommit, err = parseCID(in.SwapCommit); err != nil {
		return out, err
	}
	res, err := s.Host.Apply(ctx, did, batch)
	if err != nil {
		return out, writeError(err)
	}
	return api.RepoPutRecordOutput{
		URI:              recordURI(did, in.Collection, in.RKey),
		CID:              syntax.CID(res.Records[0].CID.String()),
		Commit:           metaOf(res),
		ValidationStatus: rec.status,
	}, nil
}

func (s *Service) deleteRecord(ctx context.Context, r *xrpc.Request, in api.RepoDeleteRecordInput) (out api.RepoDeleteRecordOutput, err error) {
	did, err := s.writer(ctx, r, in.Repo)
	if err != nil {
		return out, err
	}
	if err := r.Demand(auth.Write(auth.Delete, string(in.Collection))); err != nil {
		return out, err
	}
	write := repo.Write{Action: repo.Delete, Collection: in.Collection, RKey: in.RKey}
	batch := s.batch(r, false)
	if batch.SwapCommit, err = parseCID(in.SwapCommit); err != nil {
		return out, err
	}
	if in.SwapRecord != "" {
		c, err := parseCID(in.SwapRecord)
		if err != nil {
			return out, err
		}
		write.Swap = &c
	}
	batch.Writes = []repo.Write{write}
	// Deleting what is not there is no error and no commit, whatever the swaps say.
	if _, err := s.Host.Record(ctx, did, in.Collection, in.RKey); errors.Is(err, repo.ErrRecordNotFound) {
		return out, nil
	}
	res, err := s.Host.Apply(ctx, did, batch)
	if errors.Is(err, repo.ErrRecordNotFound) {
		return out, nil
	}
	if err != nil {
		return out, writeError(err)
	}
	out.Commit = metaOf(res)
	return out, nil
}

// applyWrite is a write of applyWrites.
type applyWrite struct {
	action     repo.Action
	permission string
	collection syntax.NSID
	rkey       syntax.RecordKey
	value      data.Raw
}

// writeOf returns the variant that is set.
func writeOf(w api.RepoApplyWritesInput_Writes) (applyWrite, bool) {
	switch {
	case w.Create != nil:
		return applyWrite{repo.Create, auth.Create, w.Create.Collection, w.Create.RKey, w.Create.Value}, true
	case w.Update != nil:
		return applyWrite{repo.Update, auth.Update, w.Update.Collection, w.Update.RKey, w.Update.Value}, true
	case w.Delete != nil:
		return applyWrite{repo.Delete, auth.Delete, w.Delete.Collection, w.Delete.RKey, nil}, true
	}
	return applyWrite{}, false
}

// resultOf describes a write that has been made.
func resultOf(action repo.Action, uri syntax.ATURI, c cid.Cid, status string) (out api.RepoApplyWritesOutput_Results) {
	switch action {
	case repo.Create:
		out.CreateResult = &api.RepoApplyWritesCreateResult{URI: uri, CID: syntax.CID(c.String()), ValidationStatus: status}
	case repo.Update:
		out.UpdateResult = &api.RepoApplyWritesUpdateResult{URI: uri, CID: syntax.CID(c.String()), ValidationStatus: status}
	default:
		out.DeleteResult = &api.RepoApplyWritesDeleteResult{}
	}
	return out
}

// maxWrites is how many writes one call of applyWrites may carry.
const maxWrites = 200

func (s *Service) applyWrites(ctx context.Context, r *xrpc.Request, in api.RepoApplyWritesInput) (out api.RepoApplyWritesOutput, err error) {
	did, err := s.writer(ctx, r, in.Repo)
	if err != nil {
		return out, err
	}
	if len(in.Writes) > maxWrites {
		return out, xrpc.InvalidRequest("Too many writes. Max: %d", maxWrites)
	}
	batch := s.batch(r, unvalidated(in.Validate))
	if batch.SwapCommit, err = parseCID(in.SwapCommit); err != nil {
		return out, err
	}
	// All of them are asked about before anything is made of any.
	writes := make([]applyWrite, len(in.Writes))
	demanded := make([]auth.Permission, len(in.Writes))
	count := make(map[string]int)
	for i, w := range in.Writes {
		var ok bool
		if writes[i], ok = writeOf(w); !ok {
			return out, xrpc.InvalidRequest("A write must be a create, an update or a delete")
		}
		demanded[i] = auth.Write(writes[i].permission, string(writes[i].collection))
		count[writes[i].permission]++
	}
	if err := r.Demand(demanded...); err != nil {
		return out, err
	}
	if s.CountWrites != nil {
		if err := s.CountWrites(r, count[auth.Create], count[auth.Update], count[auth.Delete]); err != nil {
			return out, err
		}
	}
	statuses := make([]string, len(writes))
	inputs := r.Input().Member("writes").Items()
	for i, w := range writes {
		if w.action == repo.Create && w.rkey == "" {
			w.rkey = s.Host.NextRecordKey()
		}
		write := repo.Write{Action: w.action, Collection: w.collection, RKey: w.rkey}
		if w.action != repo.Delete {
			var parsed *data.Encoded
			if len(inputs) == len(writes) {
				parsed = inputs[i].Member("value")
			}
			rec, err := s.prepare(ctx, w.collection, w.rkey, parsed, w.value, in.Validate)
			if err != nil {
				return out, err
			}
			write.Encoded, statuses[i] = rec.record, rec.status
		}
		batch.Writes = append(batch.Writes, write)
	}
	res, err := s.Host.Apply(ctx, did, batch)
	if err != nil {
		return out, writeError(err)
	}
	out.Results = make([]api.RepoApplyWritesOutput_Results, len(batch.Writes))
	for i, w := range batch.Writes {
		out.Results[i] = resultOf(w.Action, recordURI(did, w.Collection, w.RKey), res.Records[i].CID, statuses[i])
	}
	out.Commit = metaOf(res)
	return out, nil
}

// unvalidated reports whether a caller asks for no validation. Unique indexes of the host then
// replace nothing: records are written just as they are given.
func unvalidated(validate *bool) bool { return validate != nil && !*validate }

func (s *Service) uploadBlob(w http.ResponseWriter, r *xrpc.Request) error {
	acct, err := s.Accounts.Account(r.Context(), syntax.AtIdentifier(r.Principal.DID))
	if err != nil || acct.Status == TakenDown || acct.Status == Suspended {
		return accountError(acct, err)
	}
	declared, err := declaredType(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if err := r.Demand(auth.Upload(declared)); err != nil {
		return err
	}
	body, mime, err := s.blobType(r.Body, declared)
	if err != nil {
		return bodyError(err)
	}
	info, err := s.Host.UploadBlob(r.Context(), acct.DID, mime, body, s.blobLimit())
	switch {
	case errors.Is(err, storage.ErrTooLarge):
		return &xrpc.Error{Status: http.StatusRequestEntityTooLarge, Name: "PayloadTooLarge", Message: "request entity too large"}
	case errors.Is(err, repo.ErrUnusedBlobs):
		return &xrpc.Error{
			Status: http.StatusRequestEntityTooLarge, Name: "BlobQuotaExceeded",
			Message: "The account has too many blobs that no record refers to. Import its repository before its blobs.",
		}
	case errors.Is(err, storage.ErrQuota):
		return &xrpc.Error{Status: http.StatusRequestEntityTooLarge, Name: "BlobQuotaExceeded", Message: "The account has no more room for blobs"}
	case err != nil:
		return bodyError(err)
	}
	// The upload may have taken long.
	if err := s.Host.View(r.Context(), acct.DID, func(rd storage.Reader) error {
		_, err := s.guard(r, Active, Deactivated)(r.Context(), rd)
		return err
	}); err != nil {
		return writeError(err)
	}
	if acct.Moderated && s.Takedowns != nil {
		if hidden, err := s.Takedowns.HiddenBlob(r.Context(), acct.DID, info.CID); err != nil {
			return err
		} else if hidden {
			return xrpc.InvalidRequest("Blob has been takendown, cannot re-upload")
		}
	}
	return xrpc.WriteJSON(w, http.StatusOK, api.RepoUploadBlobOutput{Blob: data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}})
}

// writer is the account that a write method is to change: it must be the
// caller's own and active.
func (s *Service) writer(ctx context.Context, r *xrpc.Request, id syntax.AtIdentifier) (syntax.DID, error) {
	if p := r.Principal; p.Active && p.IsUser(p.DID) && id == syntax.AtIdentifier(p.DID) {
		return p.DID, nil // whether that is still so is checked when it is changed
	}
	acct, err := s.Accounts.Account(ctx, id)
	if err != nil || acct.Status != Active {
		return "", accountError(acct, err)
	}
	if !r.Principal.IsUser(acct.DID) {
		return "", &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthenticationRequired", Message: "Authentication Required"}
	}
	return acct.DID, nil
}

// batch is a batch of writes that the caller may make if the account is active. duplicates keeps
// what unique indexes would replace.
func (s *Service) batch(r *xrpc.Request, duplicates bool, writes ...repo.Write) repo.Batch {
	b := repo.Batch{Writes: writes, KeepDuplicates: duplicates, Guard: s.guard(r, Active)}
	if p := r.Principal; p.Active && len(p.Basis) > 0 {
		b.Assumed = make([]storage.KVCheck, len(p.Basis))
		for i, v := range p.Basis {
			b.Assumed[i] = storage.KVCheck{Key: v.Key, Value: v.Value}
		}
	}
	return b
}

// unchanged is the guard for a principal that is good while what it was found by is the same.
func unchanged(p auth.Principal) repo.Guard {
	return func(ctx context.Context, rd storage.Reader) (checks []storage.KVCheck, err error) {
		for _, v := range p.Basis {
			now, err := rd.Get(ctx, v.Key)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
			if err != nil || !bytes.Equal(now, v.Value) {
				return nil, storage.ErrConflict
			}
			checks = append(checks, storage.KVCheck{Key: v.Key, Value: v.Value})
		}
		return checks, nil
	}
}

// guard returns what decides, in the transaction of a change, whether the caller may still make
// it: the account must have one of the statuses, and the principal must still be good.
func (s *Service) guard(r *xrpc.Request, allowed ...Status) repo.Guard {
	still := unchanged(r.Principal)
	if s.Auth.Guard != nil {
		still = s.Auth.Guard(r.Principal)
	}
	in, _ := s.Accounts.(SnapshotAccounts)
	return func(ctx context.Context, rd storage.Reader) ([]storage.KVCheck, error) {
		if in != nil {
			acct, err := in.AccountIn(ctx, rd)
			switch {
			case err == nil && slices.Contains(allowed, acct.Status):
			case err == nil && acct.Status == Active: // since a moment ago
				return nil, storage.ErrConflict
			default:
				return nil, accountError(acct, err)
			}
		}
		if still == nil {
			return nil, nil
		}
		return still(ctx, rd)
	}
}

func recordURI(did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) syntax.ATURI {
	return syntax.ATURI("at://" + string(did) + "/" + string(collection) + "/" + string(rkey))
}

// parseCID reads an optional CID parameter.
func parseCID[T ~string](text T) (cid.Cid, error) {
	s := string(text)
	if s == "" {
		return cid.Undef, nil
	}
	if len(s) > maxCIDText {
		return cid.Undef, xrpc.InvalidRequest("Invalid CID: %d characters", len(s))
	}
	c, err := cid.Decode(s)
	if err != nil {
		return cid.Undef, xrpc.InvalidRequest("Invalid CID: %q", s)
	}
	return c, nil
}

// maxCIDText bounds the text of a CID: some encodings take quadratic time.
const maxCIDText = 256

// parseSwap reads a swapRecord: absent, null (there must be no record), or a CID.
func parseSwap(swap data.Nullable[syntax.CID]) (*cid.Cid, error) {
	switch {
	case !swap.Set:
		return nil, nil
	case swap.Value == nil:
		return new(cid.Cid), nil
	case *swap.Value == "":
		return nil, xrpc.InvalidRequest("swapRecord must be a CID or null")
	}
	c, err := parseCID(*swap.Value)
	return &c, err
}
