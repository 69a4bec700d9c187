// Package lexicon reads schemas of the Lexicon language and validates records,
// query parameters, bodies and stream messages with them.
//
// A [Document] is one schema file, read and checked by [ParseSchema]. A [Catalog] holds
// documents that may refer to each other; it comes from the binary ([Builtin]), from files
// ([Catalog.AddFS]), or grows while a host runs, as package lexicon/resolve finds documents in
// the network. Validating compiles what is needed from a document once: references become
// pointers, and checking a value is a walk over it that allocates next to nothing until it
// finds a fault.
//
// Values are those of package lexicon/data: map[string]any, []any, string, int64
// (or int), bool, nil, data.Bytes and data.Link. They are never changed: defaults are
// filled in for query parameters only.
//
// What a value must be is decided by the specification and, where it leaves a choice, by the
// reference implementation:
//
//   - Properties that a schema does not name are ignored.
//   - An object reached by a reference may carry "$type"; if it does, it must be the name of its
//     definition. In a union it must carry it.
//   - Variants that an open union does not list are accepted unseen.
//   - A record that needs a document that the catalog does not have is neither valid nor
//     invalid: the error is [ErrUnknownSchema].
//   - A blob in its legacy form is accepted by a [Validator] that says so, for records of the past.
//
// Schemas may come from strangers. Validation takes time in proportion to the size of
// the value and of the schema's text, whatever either holds.
//
// See the specifications of Lexicon, Record Key and Permissions.
package lexicon
