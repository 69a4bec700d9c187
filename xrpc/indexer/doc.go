// Package indexer keeps a verified, current copy of other hosts' records in an application's own
// store. It is for AppViews, feeds, search, bots and archives.
//
// An [Indexer] follows hosts, relays, or the log of a store in the same process. It reads the
// repositories of the accounts in its [Scope] from their hosts, verifies them, and gives their
// records to a [Sink]; then it applies commits as they come. The application sees a sequence of
// operations on records for each account:
//
//	listing, events ──► account is due ──► getRepo ──► verify ──► compare ──► Sink.Apply
//	                                                               ▲
//	#commit ──► verify: does it follow the account's revision? ────┼─► yes: Sink.Apply
//	                                                               └── no: the account is due
//
// # Exactly once
//
// A [Sink] carries out a [Change] in one transaction: the effects of the operations on the
// application's rows, the CID of each record, and the account's revision. The revision identifies
// commits that arrive again after a crash, and a repository that is read again is compared with the
// CIDs. So each operation takes effect once, whenever the process dies. The position in a stream is
// stored after the effects of all events up to it, never before.
//
// Operations of one account are applied in order, those of different accounts in parallel.
//
// # Repair
//
// If events do not lead from one state of an account to the next, the account's repository is read
// again. Causes are a lost event, a #sync, a commit that does not verify, or a pause longer than
// the stream's history. The indexer asks for the changes since the revision that it has. From the
// paths and CIDs of all records it computes the old tree, and with the difference it proves the new
// one. If that is not possible, it reads the whole repository. Either way the sink gets the
// differences, deletions included.
//
// # What is not trusted
//
// Repositories and commits must be signed by the key of the account's DID document. Events of a PDS
// count for the accounts that it hosts now. A relay is trusted to tell the status of accounts, and
// nothing else: its own takedowns and suspensions hold until it lifts them. Any other status is
// decided by the PDS when the account is read. If a repository does not verify, no part of it is
// used, and it is read again later; the error is in [Account.Error].
//
// The load on hosts is bounded: one or two downloads at a time from each, pauses as long as the
// host asks for, and longer ones after each failure. A host that fails, stalls or lies delays
// nobody else.
//
// Package sqlindex has a sink over database/sql.
package indexer
