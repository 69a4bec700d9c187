// Package commit has what a repository shows the world: the signed commit
// object, the messages of the event stream that announce it, and their
// verification. A PDS makes them; a relay, or anybody who follows the stream,
// checks them with the same code.
//
// A Commit signs the root of a tree together with a revision that only ever grows, which a Clock
// makes. An Event carries one commit as a slice: the operations, and a CAR file with the commit,
// the new records, the new nodes of the tree and the covering proof. Whoever knows the revision and
// the root before can undo the operations on those blocks and see that nothing was left out (Sync
// specification, operation inversion). Verifier implements that specification's validation
// checklist, with one error per rule. ReadRepo verifies the export of a whole repository in one
// pass, and VerifyRecord the proof that a repository has one record, or does not have it.
package commit
