package atproto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// commitMeta is the definition of that name in com.atproto.repo.defs.
type commitMeta struct {
	CID string     `json:"cid"`
	Rev syntax.TID `json:"rev"`
}

// metaOf describes the commit of a result; nil if there was none.
func metaOf(res repo.Result) *commitMeta {
	if !res.Changed {
		return nil
	}
	return &commitMeta{CID: res.Head.Commit.String(), Rev: res.Head.Rev}
}

type writeOutput struct {
	URI              string      `json:"uri"`
	CID              string      `json:"cid"`
	Commit           *commitMeta `json:"commit,omitempty"`
	ValidationStatus string      `json:"validationStatus,omitempty"`
}

type createRecordInput struct {
	Repo       syntax.AtIdentifier `json:"repo"`
	Collection syntax.NSID         `json:"collection"`
	RKey       syntax.RecordKey    `json:"rkey,omitempty"`
	Validate   *bool               `json:"validate,omitempty"`
	Record     json.RawMessage     `json:"record"`
	SwapCommit string              `json:"swapCommit,omitempty"`
}

func (s *Service) createRecord(ctx context.Context, r *xrpc.Request, in createRecordInput) (out writeOutput, err error) {
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
	rec, err := s.prepare(ctx, in.Collection, in.RKey, in.Record, in.Validate)
	if err != nil {
		return out, err
	}
	write := repo.Write{Action: repo.Create, Collection: in.Collection, RKey: in.RKey, Record: rec.cbor}
	batch := s.batch(r, unvalidated(in.Validate), write)
	if batch.SwapCommit, err = parseCID(in.SwapCommit); err != nil {
		return out, err
	}
	res, err := s.Host.Apply(ctx, did, batch)
	if err != nil {
		return out, writeError(err)
	}
	return writeOutput{
		URI:              recordURI(did, in.Collection, in.RKey),
		CID:              res.Records[0].CID.String(),
		Commit:           metaOf(res),
		ValidationStatus: rec.status,
	}, nil
}

type putRecordInput struct {
	createRecordInput
	SwapRecord json.RawMessage `json:"swapRecord,omitempty"`
}

func (s *Service) putRecord(ctx context.Context, r *xrpc.Request, in putRecordInput) (out writeOutput, err error) {
	did, err := s.writer(ctx, r, in.Repo)
	if err != nil {
		return out, err
	}
	if err := r.Demand(auth.Write(auth.Create, string(in.Collection)), auth.Write(auth.Update, string(in.Collection))); err != nil {
		return out, err
	}
	rec, err := s.prepare(ctx, in.Collection, in.RKey, in.Record, in.Validate)
	if err != nil {
		return out, err
	}
	write := repo.Write{Action: repo.Put, Collection: in.Collection, RKey: in.RKey, Record: rec.cbor}
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
	return writeOutput{
		URI:              recordURI(did, in.Collection, in.RKey),
		CID:              res.Records[0].CID.String(),
		Commit:           metaOf(res),
		ValidationStatus: rec.status,
	}, nil
}

type deleteRecordInput struct {
	Repo       syntax.AtIdentifier `json:"repo"`
	Collection syntax.NSID         `json:"collection"`
	RKey       syntax.RecordKey    `json:"rkey"`
	SwapRecord string              `json:"swapRecord,omitempty"`
	SwapCommit string              `json:"swapCommit,omitempty"`
}

type deleteRecordOutput struct {
	Commit *commitMeta `json:"commit,omitempty"`
}

func (s *Service) deleteRecord(ctx context.Context, r *xrpc.Request, in deleteRecordInput) (out deleteRecordOutput, err error) {
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

type applyWritesInput struct {
	Repo     syntax.AtIdentifier `json:"repo"`
	Validate *bool               `json:"validate,omitempty"`
	Writes   []struct {
		Type       string           `json:"$type"`
		Collection syntax.NSID      `json:"collection"`
		RKey       syntax.RecordKey `json:"rkey,omitempty"`
		Value      json.RawMessage  `json:"value,omitempty"`
	} `json:"writes"`
	SwapCommit string `json:"swapCommit,omitempty"`
}

type applyWritesOutput struct {
	Commit  *commitMeta        `json:"commit,omitempty"`
	Results []applyWriteResult `json:"results"`
}

type applyWriteResult struct {
	Type             string `json:"$type"`
	URI              string `json:"uri,omitempty"`
	CID              string `json:"cid,omitempty"`
	ValidationStatus string `json:"validationStatus,omitempty"`
}

// applyActions are what a write of applyWrites can be.
var applyActions = map[string]struct {
	action             repo.Action
	permission, result string
}{
	"com.atproto.repo.applyWrites#create": {repo.Create, auth.Create, "com.atproto.repo.applyWrites#createResult"},
	"com.atproto.repo.applyWrites#update": {repo.Update, auth.Update, "com.atproto.repo.applyWrites#updateResult"},
	"com.atproto.repo.applyWrites#delete": {repo.Delete, auth.Delete, "com.atproto.repo.applyWrites#deleteResult"},
}

// maxWrites is how many writes one call of applyWrites may carry.
const maxWrites = 200

func (s *Service) applyWrites(ctx context.Context, r *xrpc.Request, in applyWritesInput) (out applyWritesOutput, err error) {
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
	demanded := make([]auth.Permission, len(in.Writes))
	for i, w := range in.Writes {
		act, ok := applyActions[w.Type]
		if !ok {
			return out, xrpc.InvalidRequest("Action not supported: %s", w.Type)
		}
		demanded[i] = auth.Write(act.permission, string(w.Collection))
	}
	if err := r.Demand(demanded...); err != nil {
		return out, err
	}
	if s.CountWrites != nil {
		count := make(map[string]int)
		for _, d := range demanded {
			count[d.Action]++
		}
		if err := s.CountWrites(r, count[auth.Create], count[auth.Update], count[auth.Delete]); err != nil {
			return out, err
		}
	}
	out.Results = make([]applyWriteResult, 0, len(in.Writes))
	for _, w := range in.Writes {
		act := applyActions[w.Type]
		write := repo.Write{Action: act.action, Collection: w.Collection, RKey: w.RKey}
		if act.action == repo.Create && w.RKey == "" {
			write.RKey = s.Host.NextRecordKey()
		}
		res := applyWriteResult{Type: act.result}
		if write.Action != repo.Delete {
			rec, err := s.prepare(ctx, write.Collection, write.RKey, w.Value, in.Validate)
			if err != nil {
				return out, err
			}
			write.Record, res.ValidationStatus = rec.cbor, rec.status
			res.URI = recordURI(did, write.Collection, write.RKey)
		}
		batch.Writes = append(batch.Writes, write)
		out.Results = append(out.Results, res)
	}
	res, err := s.Host.Apply(ctx, did, batch)
	if err != nil {
		return out, writeError(err)
	}
	for i, rec := range res.Records {
		if rec.CID.Defined() {
			out.Results[i].CID = rec.CID.String()
		}
	}
	out.Commit = metaOf(res)
	return out, nil
}

// unvalidated reports whether a caller asks for no validation. Unique indexes of the host then
// replace nothing: records are written just as they are given.
func unvalidated(validate *bool) bool { return validate != nil && !*validate }

type blobOutput struct {
	Blob json.RawMessage `json:"blob"`
}

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
	blob, err := data.ToJSON(data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}.Value())
	if err != nil {
		return err
	}
	return xrpc.WriteJSON(w, http.StatusOK, blobOutput{blob})
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

func recordURI(did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) string {
	return fmt.Sprintf("at://%s/%s/%s", did, collection, rkey)
}

// parseCID reads an optional CID parameter.
func parseCID(s string) (cid.Cid, error) {
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
func parseSwap(raw json.RawMessage) (*cid.Cid, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var s *string
	if err := exactjson.Unmarshal(raw, &s); err != nil {
		return nil, xrpc.InvalidRequest("swapRecord must be a CID or null")
	}
	if s == nil {
		return new(cid.Cid), nil
	}
	if *s == "" {
		return nil, xrpc.InvalidRequest("swapRecord must be a CID or null")
	}
	c, err := parseCID(*s)
	if err != nil {
		return nil, err
	}
	return &c, nil
}
