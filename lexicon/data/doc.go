// Package data implements the AT Protocol's data model: the values that a record can have, as Go
// values, as JSON and as DAG-CBOR, and the conversions between them.
//
//	null, boolean   nil, bool
//	integer         int64
//	string          string
//	bytes           Bytes          {"$bytes": "base64"}
//	link            Link           {"$link": "bafy…"}
//	array           []any
//	object          map[string]any
//
// There are no floats. A blob is an object with "$type": "blob"; see [Blob].
//
// # One encoding
//
// Records are signed as DAG-CBOR, which has one encoding for each value. All readers of CBOR here
// accept only that encoding, so encoding a value again gives the bytes that it was read from.
// Readers of JSON refuse objects with duplicate keys, text that is not Unicode, and numbers that
// are not integers of 53 bits, because other readers could understand them differently.
//
// # Conversions
//
// An [Encoded] is a value with its CBOR, for code that needs both. [AppendCBOR] and [AppendJSON]
// convert between the encodings without building a value. For Go structs there are [Marshal],
// [Unmarshal], [MarshalJSON] and [UnmarshalJSON], with Link, Bytes, Blob, Object, Raw and Nullable
// for their fields. [PlainJSON] and [UnmarshalPlainJSON] are for JSON that never becomes CBOR.
//
// All readers have Limits by default. Errors are *Error, with the path and offset of the fault.
//
// See the Data Model specification.
package data
