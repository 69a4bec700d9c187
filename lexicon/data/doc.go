// Package data is the AT Protocol's data model: what a record can be, as Go
// values, as JSON and as DAG-CBOR, and the ways between them.
//
//	null, boolean   nil, bool
//	integer         int64
//	string          string
//	bytes           Bytes          {"$bytes": "base64"}
//	link            Link           {"$link": "bafy…"}
//	array           []any
//	object          map[string]any
//
// There are no floats. A blob is an object with "$type": "blob"; see Blob.
//
// Records are signed as DAG-CBOR, of which there is one encoding per value.
// Everything that reads CBOR here accepts only that one, so that a value encoded
// again gives the bytes it was read from. Of JSON, objects with repeated keys, text that is not
// Unicode, and numbers that are not integers of 53 bits are refused: two readers could
// understand them differently.
//
// An Encoded is a value with its CBOR, for code that needs both and hands them on.
//
// AppendCBOR and AppendJSON go from one encoding to the other without building a value. For
// Go structs there are Marshal, Unmarshal, MarshalJSON and UnmarshalJSON, with Link, Bytes, Blob, Object,
// Raw and Nullable for their fields. PlainJSON and UnmarshalPlainJSON are for JSON that never becomes CBOR.
//
// All readers work within Limits, which are on by default. Errors are *Error,
// with the path and offset of the fault.
//
// See the Data Model specification.
package data
