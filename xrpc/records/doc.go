// Package records reads single records of any account in the network.
//
// Servers are not trusted. A Reader resolves the account's DID, requests a proof from the server
// that the document names (com.atproto.sync.getRecord), and verifies it with the document's key:
// the signature of the commit, the path through the tree, and the hash of the record.
//
//	did ── DID document ──▶ server and signing key
//	server ── com.atproto.sync.getRecord ──▶ commit, nodes of the tree, record
//
// Responses are bounded, and by default requests go to public addresses only.
//
// The package is below xrpc because it combines three independent parts: package commit, which
// verifies proofs, package identity, which finds keys and servers, and an XRPC call. A Reader
// implements the Records of lexicon/resolve.
package records
