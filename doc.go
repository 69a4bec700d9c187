// Package pdskit is the root of a library for the internals of an AT Protocol Personal Data Server
// (PDS). It holds no code: take the packages below it.
//
// To keep repositories and write to them:
//
//   - [github.com/pdskit/pdskit/repo]: a host of repositories, with the write path and all reads
//   - [github.com/pdskit/pdskit/storage]: where they are kept: memory, SQLite, PostgreSQL,
//     Durable Objects, S3, or a backend of your own
//   - [github.com/pdskit/pdskit/repo/account]: accounts, their credentials and keys
//
// To work with the protocol's data:
//
//   - [github.com/pdskit/pdskit/mst]: the Merkle Search Tree
//   - [github.com/pdskit/pdskit/commit]: signed commits, event messages, and their verification
//   - [github.com/pdskit/pdskit/car]: CAR files
//   - [github.com/pdskit/pdskit/lexicon]: schemas and validation, with
//     [github.com/pdskit/pdskit/lexicon/data] for values, JSON and CBOR, and
//     [github.com/pdskit/pdskit/lexicon/syntax] for DIDs, handles and other strings
//   - [github.com/pdskit/pdskit/crypto]: keys and signatures
//   - [github.com/pdskit/pdskit/identity]: DID documents, did:plc, handles
//
// To serve it:
//
//   - [github.com/pdskit/pdskit/xrpc/pds]: a whole PDS as one value, to change and to extend
//   - [github.com/pdskit/pdskit/xrpc]: server and client of XRPC methods
//   - [github.com/pdskit/pdskit/xrpc/stream]: event streams
//   - [github.com/pdskit/pdskit/xrpc/oauth/provider]: an OAuth authorization server, and
//     [github.com/pdskit/pdskit/xrpc/oauth/client]: its other side, for apps
//
// The folder examples has a reference server and smaller programs to start from.
package pdskit
