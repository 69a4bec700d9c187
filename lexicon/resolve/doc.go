// Package resolve finds Lexicon schemas that were published over the network, and
// prepares schemas for publication.
//
// Who owns a domain name owns the NSIDs below it. A DNS record says which account
// holds the schemas of a group, and each schema is a record in that account's repository:
//
//	app.example.note ── TXT _lexicon.example.app ──▶ did=did:plc:…
//	did:plc:…        ── DID document ──▶ server and signing key
//	server           ── com.atproto.sync.getRecord ──▶ proof of
//	                    at://did:plc:…/com.atproto.lexicon.schema/app.example.note
//
// A Resolver reads the record through its Records. The one of package xrpc/records does not believe
// the server: it checks the signature of the commit, the path through the tree and the hash of the
// record. The Resolver checks that the record is a valid schema under its own name.
//
// All of this is under the control of strangers. A Resolver is bounded in time, in memory and in
// how much it does at once. It remembers what it found and what it did not find, answers many who
// ask for the same with one resolution, and serves a schema beyond its time while a fresh one
// cannot be had.
//
// See the specifications of Lexicon (Publication and Resolution) and Permissions
// (Resolution and Caching).
package resolve
