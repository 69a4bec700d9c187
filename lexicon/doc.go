// Package lexicon reads schemas of the Lexicon language, and validates records, query parameters,
// bodies and stream messages with them.
//
// A [Document] is one schema file, which [ParseSchema] reads and checks. A [Catalog] holds
// documents that may refer to each other. Documents come from the program ([Builtin]), from files
// ([Catalog.AddFS]), or from the network, by package lexicon/resolve. Before the first validation,
// a document is compiled: references become pointers. A validation is then a walk that allocates
// almost nothing until it finds a fault.
//
// Values are those of package lexicon/data: map[string]any, []any, string, int64 (or int), bool,
// nil, data.Bytes and data.Link. They are never changed: defaults are set for query parameters
// only.
//
// The specification decides what is valid. Where it leaves a choice, the reference implementation
// decides:
//
//   - Properties that a schema does not name are ignored.
//   - An object behind a reference may have "$type"; if so, it must be the name of its definition.
//     In a union it must have one.
//   - Variants that an open union does not list are accepted without validation.
//   - A record that needs a missing document is neither valid nor invalid: the error is
//     [ErrUnknownSchema].
//   - Legacy references to blobs, of old records, are accepted only with Validator.LegacyBlobs.
//
// Schemas may be untrusted. The time of a validation is proportional to the size of the value and
// of the schema's text, whatever their content.
//
// See the specifications of Lexicon, Record Key and Permissions.
package lexicon
