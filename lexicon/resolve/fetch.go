package resolve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

var (
	errNotPermissionSet = errors.New("not a permission set")
	errOtherID          = errors.New("the schema's id is not its record key")
)

// load resolves a schema.
func (r *Resolver) load(ctx context.Context, id syntax.NSID) (*Schema, *Error) {
	did, err := r.authority(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.record(ctx, id, did)
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

// record reads the record of a schema, and the schema in it.
func (r *Resolver) record(ctx context.Context, id syntax.NSID, did syntax.DID) (*Schema, *Error) {
	fail := func(kind error, step string, err error) (*Schema, *Error) {
		return nil, &Error{ID: id, Kind: kind, Step: step, Err: err}
	}
	record, rev, err := r.Records.Record(ctx, did, Collection, syntax.RecordKey(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(ErrNotFound, "record", err)
	case err != nil && (isTemporary(err) || ctx.Err() != nil):
		return fail(ErrUnavailable, "record", err)
	case err != nil:
		return fail(ErrInvalid, "record", err)
	}
	v, err := data.Decode(record, data.Limits{Bytes: r.maxSize()})
	if err != nil {
		return fail(ErrInvalid, "schema", err)
	}
	doc, err := lexicon.SchemaOf(v)
	if err != nil {
		return fail(ErrInvalid, "schema", err)
	}
	if doc.ID != id {
		return fail(ErrInvalid, "schema", errOtherID)
	}
	return &Schema{Document: doc, DID: did, CID: data.CID(record), Rev: rev, size: len(record)}, nil
}

func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
