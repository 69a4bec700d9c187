// Package follow reads the event log of a host in the same process. It is for indexers, search and
// counters that run beside the host and need no WebSocket.
//
// There are two ways to read. [Events] is the log itself: decoded events with the records that they
// carry, from a sequence number on, until the context ends. [Feed] is for an index that must be
// exactly right: it yields steps, each a change of the index's rows, and the caller carries out
// each step in one transaction of its own.
//
// # An index that is fed exactly once
//
// The index stores two things with its rows, in the same transaction: its position in the log, and
// the revision of each account's rows. Both are in each [Step]. So a process that dies before the
// commit gets the same step again, and one that dies after the commit gets the next one.
//
//	for step, err := range feed.Steps(ctx) {
//		begin a transaction
//		if step.Reset: delete all rows of step.DID
//		for op, err := range step.Ops: insert, replace or delete a row
//		store step.Rev for step.DID, and step.Position
//		commit
//	}
//
// The log alone is not enough. It is trimmed. An imported repository is announced without its
// records. An account that is not active may be written silently. In these cases a step is a Reset,
// with all records of a snapshot of the repository. The snapshot may be newer than the event, so
// later events may repeat what it contains. The revision of the account tells them apart: a commit
// changes the index only if it follows the index's revision. An older commit is ignored, and one
// that skips a revision becomes another Reset.
//
//	index has   commit       step
//	rev 5       5 → 6        its operations
//	rev 8       5 → 6        nothing: a snapshot had it already
//	rev 5       7 → 8        Reset: the commits between were not announced
//
// A feed without a position begins with a Reset for each account, in DID order, and with the
// position that the log had before the first Reset. It can be interrupted and resumed at any step.
//
// # Positions that are too old
//
// Events that have been trimmed cannot be followed. [Events] and [Feed.Steps] then end with a
// [PositionError]. The index must delete its rows and its position, and start again.
package follow
