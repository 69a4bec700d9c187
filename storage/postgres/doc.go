// Package postgres keeps a store in PostgreSQL (14 or later), for hosts that have outgrown one
// machine: several nodes, each with a [DB] of its own, on one database. Blobs are kept elsewhere:
// Store.Blobs is nil.
//
// # Steps
//
// Each process carries out its steps in groups: those that have come while one group was under way
// are the next. A group is one transaction in two exchanges with the server. The first locks the
// repositories' rows, in the order of their DIDs, and reads what the steps are held against. So a
// step that fails does so before anything is written, and takes no other with it. The second has
// all that they write, one statement for each table, and the commit.
//
// # Numbers
//
// The row of the table log is the sequencer. The last statement before the commit takes numbers
// from it and so locks it until then: the order of numbers is the order in which transactions are
// committed and become visible, on standbys too. Nodes wait for each other there and nowhere else,
// once for each group. Numbers begin at the time in microseconds, and beyond what the node has
// served: so they do not go back when a standby takes over that had not received all.
// [Config.Behind] tells of that.
//
// # A node that stands still
//
// A node that is paused, or cut off, in the middle of a transaction holds locks that others need.
// The server ends such a session by its timeouts (see [Config.Timeout]). They do not see one that
// was cut off between statements that were sent together; a node that has waited in vain looks for
// it and ends it. A late write of such a node fails, for its transaction is gone, and what it does
// next is compared with the stored head like any other step.
//
// # A connection that breaks
//
// What was surely not committed is tried again for up to [Config.Wait]: after serialization
// failures, deadlocks, lost connections, a restart or failover of the server. If the connection
// breaks while the commit is under way, the process finds out: each transaction leaves its number
// in a row of its process (see the table ticket), which it locks at its begin. Who gets that lock
// afterwards knows that the transaction has ended, and by the number, how. Only if that fails for
// Config.Wait, too, the error is [ErrUnknown].
//
// # Views
//
// A View or Read is a transaction of its own (repeatable read), with a connection for as long as
// its function runs. Rows come in pages of about a megabyte. While a snapshot is open the server
// keeps what others overwrite: so long ones slow down all. Exports read ahead into a file and are
// short; [Config.Idle] ends a View whose function has gone to sleep. [DB.Lagging] reads from a
// standby.
//
// # Keys
//
// KV.Write is a serializable transaction of the server, and its function runs again if one of
// another node was in the way. Those of one process take turns.
//
// # The log
//
// The table event is partitioned by ranges of numbers, [Config.Partition] each. Trim hides what is
// too old, and drops partitions that have nothing else. Wait is woken by notifications, behind
// which stands polling.
//
// # Versions
//
// The schema has a version, and says how new a program must be to use it. A program that is newer
// than the schema migrates it when it opens it. Steps that the programs of the release before can
// live with are made while those run. Others are refused with a [NodesError], which names the nodes
// that are to be stopped first, and afterwards those are refused with a [VersionError].
//
// # Standing
//
// Measured with storage/storagetest, see README.md. All strings are stored as bytea, so that they
// compare as bytes in every database; in psql, convert_from(did, 'UTF8') shows them.
package postgres
