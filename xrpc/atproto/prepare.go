package atproto

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// prepared is a record ready to be written.
type prepared struct {
	cbor   []byte
	status string // validationStatus: "valid", "unknown" or empty
}

// prepare turns the JSON of a record into what is stored. Whatever validate
// says, a record is an object of the data model whose $type is its collection,
// with a legal path and without blob references of the legacy form. Beyond that,
// absent validates where a schema is known, true demands one, false asks for none.
func (s *Service) prepare(ctx context.Context, collection syntax.NSID, rkey syntax.RecordKey, raw data.Raw, validate *bool) (p prepared, err error) {
	if _, err := syntax.ParseNSID(string(collection)); err != nil {
		return p, xrpc.InvalidRequest("Invalid collection: %s", collection)
	}
	if _, err := syntax.ParseRecordKey(string(rkey)); err != nil {
		return p, xrpc.InvalidRequest("Invalid record key: %s", rkey)
	}
	value, err := data.FromJSON(raw, data.Limits{})
	if err != nil {
		return p, xrpc.InvalidRequest("Invalid record: %v", err)
	}
	record, ok := value.(map[string]any)
	if !ok {
		return p, xrpc.InvalidRequest("Invalid record: it must be an object")
	}
	switch t := record["$type"]; t {
	case nil:
		record["$type"] = string(collection)
	case string(collection):
	default:
		return p, xrpc.InvalidRequest("Invalid $type: expected %s, got %v", collection, t)
	}
	if validate == nil || *validate {
		err = lexicon.ErrUnknownSchema
		if s.Schemas != nil {
			err = s.Schemas.ValidateRecord(collection, rkey, record)
		}
		if s.Unknown != nil && errors.Is(err, lexicon.ErrUnknownSchema) {
			err = s.Unknown(ctx, collection, rkey, record)
		}
		switch {
		case err == nil:
			p.status = "valid"
		case errors.Is(err, lexicon.ErrInvalid), errors.Is(err, lexicon.ErrSchema):
			return p, xrpc.InvalidRequest("%v", err)
		case !errors.Is(err, lexicon.ErrUnknownSchema):
			return p, err // of the host's own
		case validate != nil:
			return p, xrpc.InvalidRequest("Unknown lexicon type: %s", collection)
		default:
			p.status = "unknown"
		}
	}
	for _, b := range data.Blobs(record) {
		if b.Legacy {
			return p, xrpc.InvalidRequest("Legacy blobs are not allowed (%s)", b.Ref)
		}
	}
	if p.cbor, err = data.Encode(record); err != nil {
		return p, xrpc.InvalidRequest("Invalid record: %v", err)
	}
	return p, nil
}
