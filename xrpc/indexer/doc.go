// Package indexer keeps a copy of other hosts' records in an application's own store, and keeps it
// right: for AppViews, feeds, search, bots, archives.
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
// application's rows, the CID of each record, and the account's revision. What comes again after a
// crash is recognised by the revision, and a repository that is read again is compared with the
// CIDs. So the effect of an operation happens once, whenever the process dies. The position in a
// stream is stored later than the effects of what it covers, never earlier.
//
// Operations of one account are applied in order, those of different accounts in parallel.
//
// # Repair
//
// An account that does not follow from its events is read again: after a lost event, a #sync, a
// commit that does not verify, or a pause that was longer than what a stream keeps. The indexer
// asks for what has changed since the revision that it has. It knows the paths and CIDs of all
// records, so it computes the old tree, and proves the new one from the difference. If that is not
// possible, it reads the whole repository. Either way the sink gets what differs: also deletions.
//
// # What is not trusted
//
// Repositories and commits must be signed by the key of the account's DID document. Events of a PDS
// count for the accounts that it hosts now. A relay is trusted to tell the status of accounts, and
// nothing else: its own takedowns and suspensions stand until it lifts them, for all else the PDS
// decides when the account is read. A repository that fails is not used in part, and is read again
// later; the error is in [Account.Error].
//
// Hosts are treated kindly: one or two downloads at a time from each, pauses as long as they ask
// for, and longer ones after each failure. A host that fails, stalls or lies delays nobody else.
//
// Package sqlindex has a sink over database/sql.
package indexer
