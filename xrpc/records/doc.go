// Package records reads single records of any account in the network.
//
// Nothing that a server says is believed. A Reader resolves the account's DID, asks the server that
// the document names for a proof (com.atproto.sync.getRecord), and checks it with the document's
// key: the signature of the commit, the path through the tree, and the hash of the record.
//
//	did ── DID document ──▶ server and signing key
//	server ── com.atproto.sync.getRecord ──▶ commit, nodes of the tree, record
//
// Servers and documents are under the control of strangers. What is read of them is bounded, and by
// default requests go to public addresses only.
//
// The package is below xrpc because it joins what knows nothing of each other: package commit,
// which checks proofs, package identity, which knows keys and servers, and a call of a method. A
// Reader is what lexicon/resolve takes as its Records.
package records
