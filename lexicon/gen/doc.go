// Package gen generates Go code for Lexicon schemas: a struct for every object, and for the
// parameters, input and output of every method; constants for the names of methods and errors; and
// for every method a function that calls it, and one that makes a route of its implementation.
//
//	go get -tool github.com/pdskit/pdskit/lexicon/gen/lexgen
//	go tool lexgen -package api -out ./api -schemas ./lexicons com.example.*
//
// The code is for hosts that know at build time which schemas they use. Code that handles any
// record does not need it: package lexicon validates values without a Go type.
//
// # Names
//
// Names are those of the schemas without dots: com.atproto.repo.createRecord, with the prefix
// com.atproto trimmed, has RepoCreateRecordInput, RepoCreateRecordOutput and RepoCreateRecordNSID;
// com.atproto.repo.defs#commitMeta is RepoCommitMeta. Initialisms are in capitals, as is usual in
// Go. A type without a name in a schema is named after its field: the elements of
// RepoApplyWritesInput.Writes are RepoApplyWritesInput_Writes.
//
// # Types
//
//   - A required field is a plain value.
//   - An optional field that is absent is nil or, if the zero value is not valid there, as for
//     string formats, the zero value. Optional lists are omitted when nil, so that an empty list
//     can be expressed.
//   - In methods, an optional text is a plain string: an empty one is omitted. So are parameters
//     that are false by default. In records, and in what they refer to, different values are never
//     merged.
//   - A nullable field is a pointer if it is required, else a data.Nullable.
//   - A union is a struct with a pointer for each variant, of which one is set. Open unions also
//     have Other, for types that the schema does not list.
//   - An unknown is a data.Raw: JSON as it was received.
//   - Records encode their "$type" by themselves. Other objects do as variants of unions.
//   - Fields that a schema does not know are lost when a struct is read and written again. To
//     change records of other programs, use data.Object; see also Config.Raw.
//
// Read JSON with data.UnmarshalJSON, which compares names exactly, and write it with
// data.MarshalJSON, which writes a nil list as []. The server and the client of package xrpc do.
//
// Methods with JSON bodies get functions. Call others, and procedures with parameters, with the
// methods of xrpc.Client.
//
// Types and names depend on the schemas alone, so generating again gives the same bytes.
package gen
