package data

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

const blobType = "blob"

// Blob is a record's reference to a blob.
type Blob struct {
	Ref  cid.Cid // of the blob's bytes
	MIME string
	Size int64 // in bytes; 0 in the legacy form
	// Legacy is set for the old form of a reference, {"cid": "…", "mimeType": "…"}, which old
	// records have and new records must not have.
	Legacy bool
}

// Value returns the reference as a value of the data model.
func (b Blob) Value() map[string]any {
	if b.Legacy {
		return map[string]any{"cid": b.Ref.String(), "mimeType": b.MIME}
	}
	return map[string]any{"$type": blobType, "ref": Link{b.Ref}, "mimeType": b.MIME, "size": b.Size}
}

// blobOf reads a reference in its present form; false if the object is not one.
func blobOf(m map[string]any) (b Blob, ok bool) {
	ref, ok1 := m["ref"].(Link)
	mime, ok2 := m["mimeType"].(string)
	size, ok3 := m["size"].(int64)
	if !ok1 || !ok2 || !ok3 || m["$type"] != blobType || size < 0 || !strings.Contains(mime, "/") {
		return b, false
	}
	return Blob{Ref: ref.Cid, MIME: mime, Size: size}, true
}

// BlobOf returns the reference in a value, in its present or its legacy form.
func BlobOf(v any) (b Blob, ok bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return b, false
	}
	if m["$type"] == blobType {
		return blobOf(m)
	}
	text, ok1 := m["cid"].(string)
	mime, ok2 := m["mimeType"].(string)
	if len(m) != 2 || !ok1 || !ok2 || mime == "" || len(text) > maxCIDText {
		return b, false
	}
	c, err := cid.Decode(text)
	if err != nil {
		return b, false
	}
	return Blob{Ref: c, MIME: mime, Legacy: true}, true
}

// maxCIDText is the length of the longest CID that is decoded, as the string format has it:
// decoding takes more than linear time in some bases.
const maxCIDText = 256

// Blobs returns all references to blobs in a value, in both forms.
func Blobs(v any) (list []Blob) {
	walk(v, func(v any) bool {
		b, ok := BlobOf(v)
		if ok {
			list = append(list, b)
		}
		return !ok
	})
	return list
}

// Links returns the CIDs of all links in a value, including those of blobs.
func Links(v any) (list []cid.Cid) {
	walk(v, func(v any) bool {
		if l, ok := v.(Link); ok {
			list = append(list, l.Cid)
		}
		return true
	})
	return list
}

// walk visits a value and, where visit returns true, what is in it.
func walk(v any, visit func(any) bool) {
	if !visit(v) {
		return
	}
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			walk(x, visit)
		}
	case map[string]any:
		for _, x := range v {
			walk(x, visit)
		}
	}
}

// encodedType is "$type": "blob" in CBOR.
var encodedType = []byte("\x65$type\x64blob")

// BlobRefs checks that a record is canonical DAG-CBOR of an object, and returns its references to
// blobs, without legacy ones. For records without blobs, it builds no value.
func BlobRefs(record []byte) ([]Blob, error) {
	if err := Valid(record, Limits{}); err != nil {
		return nil, err
	}
	if record[0]>>5 != 5 {
		return nil, &Error{Offset: 0, Err: ErrNotObject}
	}
	if !bytes.Contains(record, encodedType) {
		return nil, nil
	}
	v, err := Decode(record, Limits{})
	if err != nil {
		return nil, err
	}
	return currentRefs(Blobs(v))
}

// BlobRefs checks that the value is an object, and returns its references to blobs, without legacy
// ones. See also the function [BlobRefs].
func (e *Encoded) BlobRefs() ([]Blob, error) {
	v, err := e.Value()
	if err != nil {
		return nil, err
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, &Error{Offset: 0, Err: ErrNotObject}
	}
	if !bytes.Contains(e.cbor, encodedType) {
		return nil, nil
	}
	return currentRefs(Blobs(v))
}

// currentRefs are references in their present form, which must be to raw bytes.
func currentRefs(list []Blob) (refs []Blob, err error) {
	for _, b := range list {
		if b.Legacy {
			continue
		}
		if codec, _, ok := dag.Split(b.Ref); !ok || codec != dag.Raw {
			return nil, &Error{Offset: -1, Err: fmt.Errorf("%w: %s is not the CID of raw bytes", ErrBlob, b.Ref)}
		}
		refs = append(refs, b)
	}
	return refs, nil
}
