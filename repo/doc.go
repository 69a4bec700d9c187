// Package repo is the write path of a Personal Data Server. It hosts repositories: it writes,
// reads, imports and exports them.
//
// A [Host] serves any number of accounts over one [storage.Store]. A write goes one way:
//
//	Apply(did, batch)
//	  tree   = the account's immutable tree, cached or rebuilt from its records
//	  change = tree.Apply(ops)              new root, new nodes, covering proof
//	  commit = next rev, new root, signed
//	  event  = the commit's slice and operations
//	  store.Apply(prev, head, records, event)   one transaction, compare-and-swap
//	  the new tree takes the place of the old one in the cache
//
// The store decides. What a Host keeps in memory is derived from the store and never ahead of it.
// It is dropped whenever the store disagrees. Several processes may write the same repository: the
// loser of a race reads again and retries. The lock per account only saves that work.
//
// The rest of an account's state (keys in its namespace, events) changes in the same way, by
// [Host.Step], or together with records in a [Batch]. So every change of an account is a
// transaction of its repository, under one lock.
//
// # The tree is an index
//
// Records are the repository. The tree is an index over them. It is not stored. If it is not
// cached, one ordered scan rebuilds it, in some 65 ms for 100,000 records. So the store holds only
// records, the signed commit and references to blobs. An export is the tree in memory plus one
// sequential scan.
//
// # Indexes of records
//
// A host may keep other indexes of an account's records in the account's key-value namespace: see
// [Index]. Every way of writing a record updates them in the same transaction. An index outside the
// store reads the event log by package repo/follow.
//
// # The clock
//
// Each account has its own clock. A new revision is the present time, or follows the account's last
// revision if that is later. The network ignores revisions from the future. So Config.CheckClock
// may refuse to sign while the clock is wrong. Import.Rewind repairs an account that was written by
// a clock that was ahead.
//
// # Blobs
//
// A blob is promoted before the record that refers to it is applied. It is visible only while a
// record refers to it. [Host.SweepBlobs] deletes its bytes later. So a failure between the two
// stores cannot lose a blob that is referred to.
package repo
