// Package transfer moves everything that a store has to another one, of whatever backend, while a
// server uses it: repositories, keys, blobs, and the event log with its numbers, so that whoever
// has followed the old store goes on with the same cursor at the new one.
//
//	source   ┌ in use ──────────────────────────────────────────┐┌ refuses writes ┐
//	         Watch                                              Shut         "left"
//	           │                                                 │               │
//	mover      └ copy ──▶ catch up ─▶ … ─▶ verify ──▶ catch up ──┴▶ catch up ──┐ │
//	             all       what was        all         what was      verify    │ │
//	                       noted                       noted         the rest  │ │
//	target     ┌ loading ──────────────────────────────────────────────────┐   ▼ │
//	                                                                        "ready" ──▶ "taken"
//
// # How
//
// The source notes, in the transactions of its writers, which accounts and keys change
// ([storage.Movable]). So a round of catching up costs what has changed, not what there is, and a
// change of a session is seen like one of a record. The order makes it complete: a change is noted
// before the copy begins, or the copy sees it.
//
// An account is copied by comparing two sorted sequences, those of the source and of the target:
// records, references to blobs, keys, blobs. What differs is written, in pieces of a few megabytes,
// each from a snapshot of its own, so that a large account is no long snapshot and no large memory.
// The head is written last, and only if it was the same in all pieces; so a head in the target
// means that all its records are there. To copy again does nothing where there is nothing to do.
// That is all there is to going on after a crash: what was being done is done again.
//
// At the end the source refuses writes, with an error that users see as "try again in a minute".
// What is left is what was noted since the last round: most of the time a second's changes. It is
// copied and verified, all heads are compared once more, and the target is marked as ready. If
// anything fails before that mark, the source takes writes again. After it, the source stays shut
// for good: a server that is started on it is told where the data is ([Enter]). Nothing in the
// source is deleted.
//
// A [Mover] that begins while another one works on the same move takes over: it says so in the
// target's mark and in the source's note, which the other one reads before it changes either.
//
// # What is verified
//
// Of every account: the root of the tree, computed from the target's records, against the signed
// commit; the bytes of each record against its CID; revisions, references and keys against the
// source; blobs by size, and by reading them back. Of the log: every event, number by number. All
// of it is verified while the source is in use, and what has changed since once more while it is
// shut.
//
// # What is not moved
//
// Blobs of accounts that are not there, keys that have expired, and the age of staged blobs, which
// begins anew. Sealed secrets are copied as they are: the new server needs the same master key.
//
// # What hosts do
//
// A host that wants to be moved opens its store through [Guard], which makes changes of blobs
// known, and calls [Enter] before it serves.
package transfer
