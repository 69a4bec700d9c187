package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// DIDs resolves DIDs to their documents; *identity.Resolver implements it. If it has a method Purge
// like that of identity.Resolver, Purge is called when a signature does not verify.
type DIDs interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
}

// Reader reads records. The zero value is ready to use. It is safe for concurrent use. Do not copy
// it, or change its fields after the first use. It caches no records.
type Reader struct {
	// DIDs resolves DIDs; default: an identity.Resolver.
	DIDs DIDs
	// HTTP makes the requests to servers; default: the client of safehttp.NewClient. Any
	// other should be as careful.
	HTTP *http.Client
	// MaxRecord bounds a record, in bytes of DAG-CBOR; default commit.MaxRecord. The file of a
	// proof may be 1 MiB larger.
	MaxRecord int

	once sync.Once
}

func (r *Reader) init() {
	if r.DIDs == nil {
		r.DIDs = new(identity.Resolver)
	}
	if r.HTTP == nil {
		r.HTTP = safehttp.NewClient(safehttp.Config{MaxBody: r.options().MaxFile()})
	}
}

func (r *Reader) options() *commit.RecordOptions { return &commit.RecordOptions{Record: r.MaxRecord} }

// Record returns a record in canonical DAG-CBOR, and the revision of the commit that proves it.
// Errors are those of Prove.
func (r *Reader) Record(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (record []byte, rev syntax.TID, err error) {
	p, err := r.Prove(ctx, did, collection, rkey)
	return p.Data, p.Commit.Rev, err
}

// Prove returns a record with the commit that proves it. Errors are *Error. If the error wraps
// commit.ErrNoRecord, the result has the commit that proves that there is no record.
//
// If the signature does not match the key of a cached DID document, the document is resolved again,
// once.
func (r *Reader) Prove(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (commit.ProvenRecord, error) {
	r.once.Do(r.init)
	opt := r.options()
	opt.DID, opt.Collection, opt.RKey = did, collection, rkey
	p, err := r.prove(ctx, opt)
	if errors.Is(err, commit.ErrBadSignature) {
		if d, ok := r.DIDs.(interface{ Purge(syntax.AtIdentifier) }); ok {
			d.Purge(syntax.AtIdentifier(did))
			p, err = r.prove(ctx, opt)
		}
	}
	return p, err
}

func (r *Reader) prove(ctx context.Context, opt *commit.RecordOptions) (commit.ProvenRecord, error) {
	fail := func(p commit.ProvenRecord, kind error, step string, err error) (commit.ProvenRecord, error) {
		uri := syntax.ATURI("at://" + string(opt.DID) + "/" + string(opt.Collection) + "/" + string(opt.RKey))
		return p, &Error{uri, kind, step, err}
	}
	var none commit.ProvenRecord
	server, key, kind, err := r.account(ctx, opt.DID)
	if err != nil {
		return fail(none, kind, "DID", err)
	}
	file, kind, err := r.request(ctx, server, opt)
	if err != nil {
		return fail(none, kind, "request", err)
	}
	opt.Key = key
	p, err := commit.VerifyRecord(file, *opt)
	switch {
	case errors.Is(err, commit.ErrNoRecord):
		return fail(p, ErrNotFound, "proof", err)
	case err != nil:
		return fail(none, ErrInvalid, "proof", err)
	}
	return p, nil
}

// account returns an account's server and its signing key.
func (r *Reader) account(ctx context.Context, did syntax.DID) (server string, key *crypto.PublicKey, kind, err error) {
	doc, err := r.DIDs.ResolveDID(ctx, did)
	switch {
	case errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrTombstoned):
		return "", nil, ErrNotFound, err
	case err != nil && (errors.Is(err, identity.ErrUnavailable) || ctx.Err() != nil):
		return "", nil, ErrUnavailable, err
	case err != nil:
		return "", nil, ErrInvalid, err
	}
	if key, err = doc.SigningKey(); err != nil {
		return "", nil, ErrInvalid, err
	}
	server, ok := doc.PDS()
	if !ok {
		return "", nil, ErrInvalid, errors.New("the document names no server")
	}
	return server, key, nil, nil
}

// request fetches a proof.
func (r *Reader) request(ctx context.Context, server string, opt *commit.RecordOptions) (file []byte, kind, err error) {
	query := url.Values{"did": {string(opt.DID)}, "collection": {string(opt.Collection)}, "rkey": {string(opt.RKey)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/xrpc/com.atproto.sync.getRecord?"+query.Encode(), nil)
	if err != nil {
		return nil, ErrInvalid, err
	}
	req.Header.Set("Accept", "application/vnd.ipld.car")
	resp, err := r.HTTP.Do(req)
	if err != nil {
		if errors.Is(err, safehttp.ErrAddress) {
			return nil, ErrInvalid, err
		}
		return nil, ErrUnavailable, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		const most = 4 << 10
		var body struct {
			Error string `json:"error"`
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, most))
		_ = exactjson.Unmarshal(text, &body)
		err = fmt.Errorf("%s answered %s %.80q", server, resp.Status, body.Error)
		switch body.Error {
		case "RecordNotFound", "RepoNotFound":
			return nil, ErrNotFound, err
		}
		return nil, ErrUnavailable, err
	}
	most := opt.MaxFile()
	file, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case errors.Is(err, safehttp.ErrTooLarge) || int64(len(file)) > most:
		return nil, ErrInvalid, fmt.Errorf("the answer has more than %d bytes", most)
	case err != nil:
		return nil, ErrUnavailable, err
	}
	return file, nil, nil
}
