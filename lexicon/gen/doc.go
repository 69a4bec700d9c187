// Package gen writes Go code for Lexicon schemas: a struct for every object, a
// function for every method that calls it, and one that makes a handler of it.
//
//	go get -tool github.com/pdskit/pdskit/lexicon/gen/lexgen
//	go tool lexgen -package api -out ./api -schemas ./lexicons com.example.*
//
// The code is for hosts that know at build time which schemas they use. What
// handles any record needs none of it: package lexicon validates values that have no Go type.
//
// What the Go types mean:
//
//   - A required field is a plain value. An optional one is a pointer, or is left out when it
//     is empty where empty is no valid value (formats); optional lists are left out when nil,
//     so that an empty list can be said. A nullable field is a pointer if it is required,
//     else a data.Nullable.
//   - A union is a struct with a pointer for each variant, of which one is set. Open unions
//     have Other besides, for types that the schema does not list.
//   - Structs read JSON with exact names, each at most once, as data.UnmarshalJSON does, also by way of
//     json.Unmarshal.
//   - Records carry their "$type" by themselves. Objects carry it as variants of unions.
//   - Fields that a schema does not know are lost when a struct is read and written again.
//     Where records of others are changed, work on data.Object.
//
// Of the methods, those with JSON bodies get typed functions, and others get http.Response
// and io.Reader. A procedure that has query parameters, or whose answer is not JSON, gets no
// function that calls it.
//
// Types and names follow from the schemas alone, so that generating again gives the same bytes.
package gen
