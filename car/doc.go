// Package car reads and writes CAR files of version 1: a header with root CIDs, then blocks, each a
// CID and the bytes it stands for. Repositories, record proofs and the blocks of events travel in
// this form.
//
// A [Reader] returns blocks in the order of the file, after checking that the bytes match their
// CID. It holds one block at a time. Everything is bounded by [Limits]. An [Index] takes blocks in
// any order, with repetitions, and finds them by CID. It keeps a few blocks in memory, and more in
// a temporary file.
//
// Only the CIDs of the AT Protocol's data model are accepted: version 1, SHA-256, codec dag-cbor or
// raw. For files of version 2 and for random access see the sub-package carv2, which builds on
// github.com/ipld/go-car/v2.
//
// See the CAR specification (https://ipld.io/specs/transport/car/carv1/) and the section "CAR File
// Serialization" of the Repository specification.
package car
