// Package transfer moves a whole store to another one of any backend while a server uses it:
// repositories, keys, blobs, and the event log with its sequence numbers. So a subscriber of the
// old store continues with the same cursor at the new one.
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
// ([storage.Movable]). So the cost of a round of catching up depends on what has changed, and
// changes of sessions are noticed like changes of records. Nothing is missed: a change is either
// noted, or made before the copy begins.
//
// An account is copied by comparing two sorted sequences, of the source and of the target: records,
// references to blobs, keys, blobs. The differences are written in pieces of a few megabytes, each
// read from its own snapshot, so a large account needs no long snapshot and little memory. The head
// is written last, and only if it was the same in all pieces. So if the target has a head, it has
// all its records. Copying is idempotent, so after a crash the interrupted work is simply repeated.
//
// At the end the source refuses writes, with an error that users see as "try again in a minute".
// The rest is what was noted since the last round, usually the changes of a second. It is copied
// and verified, all heads are compared once more, and the target is marked as ready. If anything
// fails before that mark, the source accepts writes again. After it, the source stays shut
// permanently: a server that is started on it gets an error that names the new store ([Enter]).
// Nothing in the source is deleted.
//
// A [Mover] that begins while another one works on the same move takes over. It records that in the
// target's mark and in the source's note. The other one reads these before it changes either, and
// stops.
//
// # What is verified
//
// For every account: the root of the tree, computed from the target's records, against the signed
// commit; the bytes of each record against its CID; revisions, references and keys against the
// source; blobs by size, and by reading them back. For the log: every event, number by number. All
// of it is verified while the source is in use. What has changed since then is verified again while
// it is shut.
//
// # What is not moved
//
// Blobs of accounts that do not exist, keys that have expired, and the age of staged blobs, which
// begins anew. Sealed secrets are copied unchanged: the new server needs the same master key.
//
// # What hosts do
//
// A host that supports moves opens its store through [Guard], which notes changes of blobs, and
// calls [Enter] before it serves.
package transfer
