// Package carv2 reads CAR files of version 2, and gives random access to files of
// either version. It builds on github.com/ipld/go-car/v2, which is why it stands apart: package
// car itself needs no more than go-cid.
//
// Version 2 wraps a file of version 1, the payload, in a header that says where it
// lies, and may append an index. NewReader takes the wrapping off a stream, so that all that
// reads version 1 reads version 2 too. Open finds blocks by their CIDs. Wrap makes an
// indexed file for programs that want one.
//
// A file is not believed. Blocks are hashed whenever they are read. The index that a file
// brings along is not used: it could hide blocks, or claim all memory. Open reads the file once
// instead, which checks it on the way.
//
// See the CAR specification, version 2 (https://ipld.io/specs/transport/car/carv2/).
package carv2
