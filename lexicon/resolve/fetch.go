package resolve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

var (
	errNotPermissionSet = errors.New("not a permission set")
	errOtherID          = errors.New("the schema's id is not its record key")
	errNoRecord         = errors.New("the repository does not have the record")
)

// load resolves a schema.
func (r *Resolver) load(ctx context.Context, id syntax.NSID) (*Schema, *Error) {
	did, err := r.authority(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := r.record(ctx, id, did)
	if err != nil && errors.Is(err.Err, crypto.ErrSignature) {
		// The account may have changed its key since its document was read.
		if p, ok := r.DIDs.(interface{ Purge(syntax.AtIdentifier) }); ok {
			p.Purge(syntax.AtIdentifier(did))
			s, err = r.record(ctx, id, did)
		}
	}
	return s, err
}

// authority returns the account that holds the schemas of an NSID's group.
func (r *Resolver) authority(ctx context.Context, id syntax.NSID) (syntax.DID, *Error) {
	fail := func(kind, err error) (syntax.DID, *Error) {
		return "", &Error{ID: id, Kind: kind, Step: "DNS", Err: err}
	}
	name := TXTName(id)
	texts, err := r.DNS.LookupTXT(ctx, name)
	if err != nil {
		var e *net.DNSError
		if errors.As(err, &e) && e.IsNotFound {
			return fail(ErrNotFound, err)
		}
		return fail(ErrUnavailable, err)
	}
	var found []string
	for _, s := range texts {
		if did, ok := strings.CutPrefix(s, "did="); ok {
			found = append(found, did)
		}
	}
	switch len(found) {
	case 0:
		return fail(ErrNotFound, fmt.Errorf("%s has no record that starts with did=", name))
	case 1:
		did, err := syntax.ParseDID(found[0])
		if err != nil {
			return fail(ErrInvalid, err)
		}
		return did, nil
	}
	return fail(ErrInvalid, fmt.Errorf("%s names several accounts", name))
}

// record fetches and verifies the record of a schema.
func (r *Resolver) record(ctx context.Context, id syntax.NSID, did syntax.DID) (*Schema, *Error) {
	fail := func(kind error, step string, err error) (*Schema, *Error) {
		return nil, &Error{ID: id, Kind: kind, Step: step, Err: err}
	}
	doc, err := r.DIDs.ResolveDID(ctx, did)
	switch {
	case errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrTombstoned):
		return fail(ErrNotFound, "DID", err)
	case errors.Is(err, identity.ErrUnavailable) || ctx.Err() != nil:
		return fail(ErrUnavailable, "DID", err)
	case err != nil:
		return fail(ErrInvalid, "DID", err)
	}
	key, err := doc.SigningKey()
	if err != nil {
		return fail(ErrInvalid, "DID", err)
	}
	server, ok := doc.PDS()
	if !ok {
		return fail(ErrInvalid, "DID", errors.New("the document names no server"))
	}
	file, kind, err := r.getRecord(ctx, server, did, id)
	if err != nil {
		return fail(kind, "record", err)
	}
	s, err := r.verify(file, did, id, key)
	switch {
	case errors.Is(err, errNoRecord):
		return fail(ErrNotFound, "record", err)
	case err != nil:
		return fail(ErrInvalid, "proof", err)
	}
	if s.Document.ID != id {
		return fail(ErrInvalid, "schema", errOtherID)
	}
	return s, nil
}

// getRecord fetches a proof of the record as a CAR file.
func (r *Resolver) getRecord(ctx context.Context, server string, did syntax.DID, id syntax.NSID) (file []byte, kind, err error) {
	query := url.Values{"did": {string(did)}, "collection": {Collection}, "rkey": {string(id)}}
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
	file, err = io.ReadAll(io.LimitReader(resp.Body, int64(r.maxProof())+1))
	switch {
	case errors.Is(err, safehttp.ErrTooLarge) || len(file) > r.maxProof():
		return nil, ErrInvalid, fmt.Errorf("the answer has more than %d bytes", r.maxProof())
	case err != nil:
		return nil, ErrUnavailable, err
	}
	return file, nil, nil
}

// verify checks a proof of a record and reads the schema in it.
func (r *Resolver) verify(file []byte, did syntax.DID, id syntax.NSID, key *crypto.PublicKey) (*Schema, error) {
	roots, blocks, err := car.ReadAll(file, car.Limits{BlockBytes: int64(r.maxSize()), Blocks: 1024})
	if err != nil {
		return nil, err
	}
	if len(roots) != 1 {
		return nil, fmt.Errorf("the file has %d roots", len(roots))
	}
	find := func(match func(car.Block) bool) []byte {
		for _, b := range blocks {
			if match(b) {
				return b.Data
			}
		}
		return nil
	}
	c, err := commit.Parse(find(func(b car.Block) bool { return b.CID == roots[0] }))
	if err != nil {
		return nil, err
	}
	if c.DID != did {
		return nil, fmt.Errorf("the commit is of %s", c.DID)
	}
	if err := c.Verify(key); err != nil {
		return nil, err
	}
	record, found, err := mst.VerifyProof(c.Data, Collection+"/"+string(id), blocks)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errNoRecord
	}
	b := find(func(b car.Block) bool { return b.CID == record })
	if b == nil {
		return nil, fmt.Errorf("the record's block %s is missing", record)
	}
	v, err := data.Decode(b, data.Limits{Bytes: r.maxSize()})
	if err != nil {
		return nil, err
	}
	doc, err := lexicon.SchemaOf(v)
	if err != nil {
		return nil, err
	}
	return &Schema{Document: doc, DID: did, CID: record, Rev: c.Rev, size: len(b)}, nil
}
