// Package identity finds out who an account is: DIDs and their documents,
// handles, and the directory behind did:plc.
//
// A DID names an account for ever; its document says which key signs the
// account's repository, which server holds it, and which handle it claims. A
// handle is a domain name that points back at the DID. Only when both point at
// each other is a handle valid, so Resolver.Lookup checks both ways.
//
// Everything that arrives here was written by strangers: documents, handles and
// the host names in both. Requests therefore go through the client that
// package safehttp makes, which reaches public addresses only, and every answer is
// bounded in size and time.
//
// A did:plc document is only as true as the directory that serves it, unless the
// log of operations is checked: the DID is the hash of the first operation, and
// each operation is signed with a key that an earlier one allows. PLCLog holds
// these rules; PLCClient applies them when its Verify field is set. Package
// plctest is a directory for tests and development, built on the same rules.
//
// Whoever has a rotation key changes a did:plc with Rotate: its handle, server, signing key, or the
// rotation keys themselves. It checks the operation before it is sent, and finds out what became of
// one whose answer was lost.
//
// Resolver caches. A cache trades freshness for speed: an account that moved is
// seen at its old server until the entry expires, unless the host purges it when
// it hears of the change (an #identity event, or a failed signature).
//
// See the specifications of DIDs, Handles, and of the did:plc method.
package identity
