// Package follow reads the event log of a host in the same process: for indexers, search and
// counters that live beside it and need no WebSocket.
//
// There are two ways to read. [Events] is the log itself: decoded events with the records that they
// carry, from a sequence number on, for as long as the context lasts. [Feed] is for an index that
// must be right: it says, step by step, how the rows of an index change, and the caller carries out
// each step in one transaction of its own.
//
// # An index that is fed exactly once
//
// The index stores two things beside its rows, in the same transaction: its position in the log,
// and for each account the revision that its rows have. Both come with each [Step]. So a process
// that dies between an event and the commit gets the same step again, and one that dies after the
// commit gets the next one.
//
//	for step, err := range feed.Steps(ctx) {
//		begin a transaction
//		if step.Reset: delete all rows of step.DID
//		for op, err := range step.Ops: insert, replace or delete a row
//		store step.Rev for step.DID, and step.Position
//		commit
//	}
//
// The log alone is not enough for that. It is trimmed; a repository that is imported is announced
// without its records; an account that is not active may be written silently. In these cases a step
// is a Reset, with all records of a snapshot of the repository. The snapshot may be newer than the
// event, so it can hold what later events say again: the revision of the account tells them apart.
// A commit changes an index only if it follows the revision that the index has; an older one is
// left out, and one that skips a revision is another Reset.
//
//	index has   commit       step
//	rev 5       5 → 6        its operations
//	rev 8       5 → 6        nothing: a snapshot had it already
//	rev 5       7 → 8        Reset: the commits between were not announced
//
// A feed without a position begins with a Reset for each account, in DID order, from the position
// that the log had before the first. It can be broken off and resumed at any step.
//
// # Positions that are too old
//
// What has been trimmed cannot be followed. [Events] and [Feed.Steps] then end with a
// [PositionError]. The index deletes all that it has, with its position, and starts again.
package follow
