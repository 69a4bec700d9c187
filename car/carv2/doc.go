// Package carv2 reads CAR files of version 2, and gives random access to files of both versions. It
// is separate from package car because it builds on github.com/ipld/go-car/v2; package car needs
// only go-cid.
//
// A file of version 2 has a header, a file of version 1 (the payload), and perhaps an index.
// [NewReader] unwraps a stream, so that all code for version 1 can read version 2 too. [Open] finds
// blocks by their CIDs. [Wrap] makes a file with an index, for programs that need one.
//
// Files are untrusted. Blocks are hashed whenever they are read. A file's own index is not used,
// because it could hide blocks or demand too much memory. Open reads and checks the file once
// instead.
//
// See the CAR specification, version 2 (https://ipld.io/specs/transport/car/carv2/).
package carv2
