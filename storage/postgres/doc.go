// Package postgres keeps a store in PostgreSQL (14 or later), for hosts that need more than one
// machine: several nodes, each with its own [DB], share one database. Blobs are kept elsewhere:
// Store.Blobs is nil.
//
// # Steps
//
// Each process carries out its steps in groups: the steps that arrive during one group form the
// next. A group is one transaction with two round trips to the server. The first locks the rows of
// the repositories, in the order of their DIDs, and reads all that preconditions are compared with.
// So a step whose preconditions fail does so before anything is written, without effect on the
// other steps. The second round trip sends all writes, one statement for each table, and the
// commit.
//
// # Numbers
//
// One row of the table log is the sequencer. The last statement before the commit takes numbers
// from it, and so locks it until the commit. So numbers are in the order in which transactions
// commit and become visible, on standbys too. Nodes wait for each other only there, once for each
// group.
//
// New numbers are not less than the time in microseconds, and greater than all that the node has
// served. So they do not go back when a standby takes over that had not received everything.
// [Config].Behind reports such a failover; what else it does is in README.md, under "Limits".
//
// # A node that stands still
//
// A node that is paused or disconnected in the middle of a transaction holds locks that other nodes
// need. The server ends such a session by its timeouts (see [Config].Timeout). These timeouts do
// not apply to a session that was disconnected between statements that were sent together. A node
// that has waited too long for such a session finds it and ends it. A late write of the paused node
// fails, since its transaction is gone, and its next steps are compared with the stored heads like
// any others.
//
// # A connection that breaks
//
// A transaction that was certainly not committed is tried again for up to [Config].Wait: after
// serialization failures, deadlocks, lost connections, and a restart or failover of the server. If
// the connection breaks during the commit, the process finds out the outcome. Each transaction
// writes its number to a row of its process in the table ticket, which it locks at its beginning.
// Whoever gets that lock afterwards knows that the transaction has ended, and the number says
// whether it was committed. If this fails too for Config.Wait, the error is [ErrUnknown].
//
// # Views
//
// A View or Read is a separate transaction (repeatable read), with a connection of its own while
// its function runs. Rows come in pages of about a megabyte. While a snapshot is open, the server
// keeps what others overwrite, so long snapshots slow everything down. Exports read ahead into a
// file and are short. [Config].Idle ends a View whose function does not read for some time.
// [DB.Lagging] reads from a standby.
//
// # Keys
//
// KV.Write is a serializable transaction of the server. Its function runs again if it conflicts
// with a transaction of another node. Within one process, only one runs at a time.
//
// # The log
//
// The table event is partitioned by ranges of numbers, each spanning [Config].Partition. Trim hides
// old events, and drops partitions that have no others. Notifications wake Wait; polling covers
// lost ones.
//
// # Versions
//
// The schema has a version, and a minimum version of the programs that may use it. A newer program
// migrates the schema when it opens it. A migration that the previous release can work with is made
// while older programs run. Any other migration is refused with a [NodesError] that names the nodes
// to stop first. After that migration, older programs are refused with a [VersionError].
//
// # Measurements and strings
//
// README.md has measurements, made with storage/storagetest. All strings are stored as bytea, so
// that they compare as bytes in every database; in psql, convert_from(did, 'UTF8') shows them.
package postgres
