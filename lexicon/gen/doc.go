// Package gen writes Go code for Lexicon schemas: a struct for every object, and for the
// parameters, input and output of every method; constants for the names of methods and errors; a
// function for every method that calls it, and one that makes a route of its implementation.
//
//	go get -tool github.com/pdskit/pdskit/lexicon/gen/lexgen
//	go tool lexgen -package api -out ./api -schemas ./lexicons com.example.*
//
// The code is for hosts that know at build time which schemas they use. What
// handles any record needs none of it: package lexicon validates values that have no Go type.
//
// Names are those of the schemas without dots: com.atproto.repo.createRecord, with the prefix
// com.atproto trimmed, has RepoCreateRecordInput, RepoCreateRecordOutput and RepoCreateRecordNSID;
// com.atproto.repo.defs#commitMeta is RepoCommitMeta. Initialisms are in capitals, as Go has them.
// What has no name in a schema is named after the field that it is in: the elements of
// RepoApplyWritesInput.Writes are RepoApplyWritesInput_Writes.
//
// What the Go types mean:
//
//   - A required field is a plain value.
//   - An optional field that is absent is nil, or the zero value where that is not valid in its
//     place, as it is not for formats. Optional lists are left out when nil, so that an empty list
//     can be said.
//   - In methods, besides, an optional text is plain: an empty one is left out. The same goes for
//     parameters that are false where they are absent. In records, and in what they refer to, no
//     two values are taken for one.
//   - A nullable field is a pointer if it is required, else a data.Nullable.
//   - A union is a struct with a pointer for each variant, of which one is set. Open unions
//     have Other besides, for types that the schema does not list.
//   - What a schema calls unknown is a data.Raw: JSON as it came.
//   - Records carry their "$type" by themselves, and other objects as variants of unions.
//   - Fields that a schema does not know are lost when a struct is read and written again.
//     Where records of others are changed, work on data.Object; see also Config.Raw.
//
// Read JSON with data.UnmarshalJSON, which takes names exactly, and write it with
// data.MarshalJSON, which writes a nil list as []. The server and the client of package xrpc do.
//
// Methods with JSON bodies get functions. Others, and procedures that have parameters, are called
// with the methods of xrpc.Client.
//
// Types and names follow from the schemas alone, so that generating again gives the same bytes.
package gen
