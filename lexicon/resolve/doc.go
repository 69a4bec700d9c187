// Package resolve finds Lexicon schemas that are published on the network, and prepares schemas for
// publication.
//
// The owner of a domain name owns the NSIDs below it. A DNS record names the account that has the
// schemas of a group. Each schema is a record in that account's repository:
//
//	app.example.note ── TXT _lexicon.example.app ──▶ did=did:plc:…
//	did:plc:…        ── DID document ──▶ server and signing key
//	server           ── com.atproto.sync.getRecord ──▶ proof of
//	                    at://did:plc:…/com.atproto.lexicon.schema/app.example.note
//
// A [Resolver] reads the record through its Records. The implementation in package xrpc/records
// does not trust the server: it checks the signature of the commit, the path through the tree and
// the hash of the record. The Resolver checks that the record is a valid schema with its own name.
//
// All of this is untrusted input, so a Resolver is bounded in time, memory and concurrency. It
// caches results and failures. Concurrent requests for the same schema share one resolution. An
// expired schema is used as long as a fresh one is not available.
//
// See the specifications of Lexicon (Publication and Resolution) and Permissions (Resolution and
// Caching).
package resolve
