package atproto

import (
	"context"
	"errors"
	"maps"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// prepared is a record ready to be written.
type prepared struct {
	record *data.Encoded
	status string // validationStatus: "valid", "unknown" or empty
}

// parsed is a record in a request's body. It is that of the body's value, in, if there is one.
func parsed(in *data.Encoded, raw data.Raw) (*data.Encoded, error) {
	if in != nil {
		return in, nil
	}
	record, err := data.ParseJSON(raw, data.Limits{})
	if err != nil {
		return nil, xrpc.InvalidRequest("Invalid record: %v", err)
	}
	return record, nil
}

// prepare turns a record of a request into what is stored. Whatever validate
// says, a record is an object of the data model whose $type is its collection,
// with a legal path and without blob references of the legacy form. Beyond that,
// absent validates where a schema is known, true demands one, false asks for none.
func (s *Service) prepare(ctx context.Context, collection syntax.NSID, rkey syntax.RecordKey, in *data.Encoded, raw data.Raw, validate *bool) (p prepared, err error) {
	if _, err := syntax.ParseNSID(string(collection)); err != nil {
		return p, xrpc.InvalidRequest("Invalid collection: %s", collection)
	}
	if _, err := syntax.ParseRecordKey(string(rkey)); err != nil {
		return p, xrpc.InvalidRequest("Invalid record key: %s", rkey)
	}
	if p.record, err = parsed(in, raw); err != nil {
		return p, err
	}
	value, err := p.record.Value()
	if err != nil {
		return p, err
	}
	record, ok := value.(map[string]any)
	if !ok {
		return p, xrpc.InvalidRequest("Invalid record: it must be an object")
	}
	switch t := record["$type"]; t {
	case nil:
		record = maps.Clone(record)
		record["$type"] = string(collection)
		if p.record, err = data.EncodeValue(record); err != nil {
			return p, xrpc.InvalidRequest("Invalid record: %v", err)
		}
	case string(collection):
	default:
		return p, xrpc.InvalidRequest("Invalid $type: expected %s, got %v", collection, t)
	}
	if validate == nil || *validate {
		if p.status, err = s.validated(ctx, collection, rkey, record, validate != nil); err != nil {
			return p, err
		}
	}
	blobs, err := p.record.Blobs()
	if err != nil {
		return p, err
	}
	for _, b := range blobs {
		if b.Legacy {
			return p, xrpc.InvalidRequest("Legacy blobs are not allowed (%s)", b.Ref)
		}
	}
	return p, nil
}

// validated validates a record and returns its validationStatus. If its schema is not known, that
// is an error if it is demanded.
func (s *Service) validated(ctx context.Context, collection syntax.NSID, rkey syntax.RecordKey, record map[string]any, demanded bool) (string, error) {
	err := lexicon.ErrUnknownSchema
	if s.Schemas != nil {
		err = s.Schemas.ValidateRecord(collection, rkey, record)
	}
	if s.Unknown != nil && errors.Is(err, lexicon.ErrUnknownSchema) {
		err = s.Unknown(ctx, collection, rkey, record)
	}
	switch {
	case err == nil:
		return "valid", nil
	case errors.Is(err, lexicon.ErrInvalid), errors.Is(err, lexicon.ErrSchema):
		return "", xrpc.InvalidRequest("%v", err)
	case !errors.Is(err, lexicon.ErrUnknownSchema):
		return "", err // of the host's own
	case demanded:
		return "", xrpc.InvalidRequest("Unknown lexicon type: %s", collection)
	}
	return "unknown", nil
}
