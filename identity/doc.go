// Package identity resolves identities of accounts: DIDs and their documents, handles, and the
// directory of did:plc.
//
// A DID identifies an account permanently. Its document has the key that signs the account's
// repository, the server that hosts it, and the handle that it claims. A handle is a domain name
// that points to a DID. A handle is valid only if both point to each other, so [Resolver.Lookup]
// checks both.
//
// All input is untrusted: documents, handles, and the host names in both. So requests go through
// the client of package safehttp, which reaches only public addresses, and every response is
// bounded in size and time.
//
// A did:plc document must be taken on trust from the directory, unless the log of operations is
// checked: the DID is the hash of the first operation, and each operation is signed with a key that
// an earlier one allows. [PLCLog] implements these rules. [PLCClient] applies them if its Verify
// field is set. Package plctest is a directory for tests and development, built on the same rules.
//
// [Rotate] changes a did:plc with one of its rotation keys: its handle, server, signing key, or the
// rotation keys themselves. It validates the operation before sending it. If the response is lost,
// it finds out whether the operation was accepted.
//
// A [Resolver] caches results, so they may be outdated: an account that has moved is seen at its
// old server until the entry expires. A host that learns of a change (by an #identity event, or a
// signature that does not verify) calls [Resolver.Purge].
//
// See the specifications of DIDs, Handles, and of the did:plc method.
package identity
