// Package check reads everything that a store keeps and says what is wrong with it.
//
// It is the one definition of a sound store: hosts run it to see whether a disk, a backup or a
// migration has lost anything, and package storagetest runs it on every backend. It looks at
//
//   - each repository, in one snapshot: the commit block is that of the head and is signed with the
//     account's key; the tree of the records has the root that is signed; each record is a legal
//     one under a legal path, matches its CID, was written in a revision that there has been, and
//     is found by its CID; the index of blobs has exactly the references that the records have;
//   - blobs: each that a record refers to is there, and its bytes are those of its CID;
//   - the log of events: numbers ascend within the bounds; each message is well-formed and about
//     its account; each commit's operations, undone, lead to the state that it says it follows;
//   - what the host keeps of accounts besides, if it says how: see [Checker.Others].
//
// What is wrong is a [Problem]. What is unusual but sound is only counted and listed: blobs that
// need not be there, and accounts whose revision lies in the future.
//
// The store may be written to meanwhile: nothing is reported for that. Accounts and events are read
// one after the other, so the memory that a check needs does not grow with their number
// ([Options.Strict] apart).
package check
