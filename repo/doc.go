// Package repo hosts repositories: it is the write path of a Personal Data
// Server, and everything that reads what was written.
//
// A Host serves any number of accounts over one storage.Store. A write goes
// one way:
//
//	Apply(did, batch)
//	  tree   = the account's immutable tree, cached or rebuilt from its records
//	  change = tree.Apply(ops)              new root, new nodes, covering proof
//	  commit = next rev, new root, signed
//	  event  = the commit's slice and operations
//	  store.Apply(prev, head, records, event)   one transaction, compare-and-swap
//	  the new tree takes the place of the old one in the cache
//
// The store decides. What a Host holds in memory is derived, never ahead of
// the store, and dropped whenever the store disagrees: another process may
// write the same repository, and the loser of a race reads again and retries.
// A lock per account only saves that work.
//
// What is not a record (keys in the account's namespace, events) changes in the same way, by
// [Host.Step], or along with records in a [Batch]. So everything of an account changes in
// transactions of its repository, under one lock.
//
// Records are the repository; the tree is an index over them that is rebuilt
// in one ordered scan when it is not cached (some 65 ms for 100,000 records).
// So nothing but records, the signed commit and blob references is stored, and
// an export is the tree in memory plus one sequential scan.
//
// An index outside the store, in the same process, reads the event log by package follow.
//
// A host may keep indexes of an account's records in its key-value namespace: see Index. They are
// derived from what a batch changes, in the same transaction, whatever the way of the write.
//
// Each account has a clock of its own: a revision is the time, or follows the account's last one if
// that is later. The network ignores revisions from the future. So Config.CheckClock may refuse to
// sign while the clock is wrong, and Import.Rewind repairs an account that was written by a clock
// that was ahead.
//
// Blobs are promoted before the record that refers to them is applied and are
// visible only while a record refers to them. Their bytes are deleted later, by
// SweepBlobs, so that no failure between two stores can lose a referenced blob.
package repo
