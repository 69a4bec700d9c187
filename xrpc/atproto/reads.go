package atproto

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

type getRecordParams struct {
	Repo       syntax.AtIdentifier `json:"repo"`
	Collection syntax.NSID         `json:"collection"`
	RKey       syntax.RecordKey    `json:"rkey"`
	CID        string              `json:"cid"`
}

// appendRecord appends a record as getRecord and listRecords show it. URIs and CIDs have no
// characters that JSON would escape.
func appendRecord(b []byte, uri string, rec storage.Record) ([]byte, error) {
	b = append(append(b, `{"uri":"`...), uri...)
	b = append(append(b, `","cid":"`...), rec.CID.String()...)
	b, err := data.AppendJSON(append(b, `","value":`...), rec.Data)
	return append(b, '}'), err
}

func (s *Service) getRecord(w http.ResponseWriter, r *xrpc.Request, p getRecordParams) error {
	acct, err := s.Accounts.Account(r.Context(), p.Repo)
	if errors.Is(err, ErrNoAccount) && s.Elsewhere != nil {
		return s.Elsewhere(w, r)
	} else if errors.Is(err, ErrNoAccount) || err == nil && acct.Status != Active {
		return xrpc.InvalidRequest("Could not locate record")
	} else if err != nil {
		return err
	}
	out, err := s.record(r.Context(), acct, p)
	if err != nil {
		return err
	}
	return xrpc.WriteJSON(w, http.StatusOK, out)
}

// record reads a record of an account.
func (s *Service) record(ctx context.Context, acct Account, p getRecordParams) (json.RawMessage, error) {
	uri := recordURI(acct.DID, p.Collection, p.RKey)
	hidden, err := s.hidden(ctx, acct, p.Collection)
	if err != nil {
		return nil, err
	}
	rec, err := s.Host.Record(ctx, acct.DID, p.Collection, p.RKey)
	if hidden[rec.Path] && err == nil {
		err = repo.ErrRecordNotFound
	}
	if errors.Is(err, repo.ErrRecordNotFound) || err == nil && p.CID != "" && p.CID != rec.CID.String() {
		return nil, &xrpc.Error{Status: 400, Name: "RecordNotFound", Message: "Could not locate record: " + uri}
	} else if err != nil {
		return nil, err
	}
	return appendRecord(nil, uri, rec)
}

type listRecordsParams struct {
	Repo       syntax.AtIdentifier `json:"repo"`
	Collection syntax.NSID         `json:"collection"`
	Limit      int                 `json:"limit"`
	Cursor     syntax.RecordKey    `json:"cursor"`
	Reverse    bool                `json:"reverse"`
}

func (s *Service) listRecords(ctx context.Context, r *xrpc.Request, p listRecordsParams) (out json.RawMessage, err error) {
	acct, err := s.Accounts.Account(ctx, p.Repo)
	if errors.Is(err, ErrNoAccount) || err == nil && acct.Status != Active {
		return out, xrpc.InvalidRequest("Could not find repo: %s", p.Repo)
	} else if err != nil {
		return out, err
	}
	if p.Limit, err = pageLimit(p.Limit, 50, 100); err != nil {
		return out, err
	}
	page, err := s.Host.List(ctx, acct.DID, p.Collection, repo.ListOptions{Limit: p.Limit, Cursor: p.Cursor, Reverse: p.Reverse})
	if err != nil {
		return out, err
	}
	hidden, err := s.hidden(ctx, acct, p.Collection)
	if err != nil {
		return out, err
	}
	size := 64
	for _, rec := range page {
		size += 256 + len(rec.Data)*5/4 // CIDs are longer in JSON
	}
	out = append(make([]byte, 0, size), `{"records":[`...)
	var cursor syntax.RecordKey
	for _, rec := range page {
		if _, cursor, err = syntax.ParsePath(rec.Path); err != nil {
			return nil, err
		}
		if hidden[rec.Path] {
			continue
		}
		if out[len(out)-1] != '[' {
			out = append(out, ',')
		}
		if out, err = appendRecord(out, recordURI(acct.DID, p.Collection, cursor), rec); err != nil {
			return nil, err
		}
	}
	out = append(out, ']')
	if cursor != "" {
		out = append(append(append(out, `,"cursor":"`...), cursor...), '"')
	}
	return append(out, '}'), nil
}

// hidden returns the paths of a collection's records that are taken down.
func (s *Service) hidden(ctx context.Context, acct Account, collection syntax.NSID) (map[string]bool, error) {
	if !acct.Moderated || s.Takedowns == nil {
		return nil, nil
	}
	return s.Takedowns.HiddenRecords(ctx, acct.DID, collection)
}

type repoParam struct {
	Repo syntax.AtIdentifier `json:"repo"`
}

type describeRepoOutput struct {
	Handle          syntax.Handle   `json:"handle"`
	DID             syntax.DID      `json:"did"`
	DIDDoc          json.RawMessage `json:"didDoc"`
	Collections     []syntax.NSID   `json:"collections"`
	HandleIsCorrect bool            `json:"handleIsCorrect"`
}

func (s *Service) describeRepo(ctx context.Context, r *xrpc.Request, p repoParam) (out describeRepoOutput, err error) {
	acct, err := s.available(ctx, r, p.Repo)
	if err != nil {
		return out, err
	}
	doc, handle, err := s.Accounts.Document(ctx, acct.DID)
	if err != nil {
		return out, xrpc.InvalidRequest("Could not resolve DID: %v", err)
	}
	out = describeRepoOutput{Handle: acct.Handle, DID: acct.DID, DIDDoc: doc, HandleIsCorrect: handle == acct.Handle}
	out.Collections, err = s.Host.Collections(ctx, acct.DID)
	if out.Collections == nil {
		out.Collections = []syntax.NSID{}
	}
	return out, err
}

type handleParam struct {
	Handle syntax.Handle `json:"handle"`
}

type didOutput struct {
	DID syntax.DID `json:"did"`
}

func (s *Service) resolveHandle(ctx context.Context, r *xrpc.Request, p handleParam) (out didOutput, err error) {
	handle := p.Handle.Normalize()
	if _, err := syntax.ParseHandle(string(handle)); err != nil {
		return out, xrpc.InvalidRequest("Invalid handle: %s", p.Handle)
	}
	acct, err := s.Accounts.Account(ctx, syntax.AtIdentifier(handle))
	if err == nil && acct.Status == Active {
		return didOutput{acct.DID}, nil
	} else if err != nil && !errors.Is(err, ErrNoAccount) {
		return out, err
	}
	if err != nil {
		out.DID, err = s.Accounts.ResolveHandle(ctx, handle)
	}
	if err != nil || out.DID == "" {
		return out, xrpc.InvalidRequest("Unable to resolve handle")
	}
	return out, nil
}
