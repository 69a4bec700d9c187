// Package commit implements what a repository publishes: the signed commit object, the messages of
// the event stream that announce it, and their verification. A PDS makes them. A relay, or any
// other reader of the stream, verifies them with the same code.
//
// A [Commit] signs the root of a tree together with a revision, which always increases. An [Event]
// carries one commit as a slice: the operations, and a CAR file with the commit, the new records,
// the new nodes of the tree and the covering proof. A reader that knows the previous revision and
// root can undo the operations on those blocks, and so verify that the operations are complete
// (Sync specification, operation inversion).
//
// [Verifier] implements that specification's validation checklist, with one error for each rule.
// [ReadRepo] verifies the export of a whole repository in one pass. [VerifyRecord] verifies the
// proof that a repository has one record, or does not have it.
package commit
