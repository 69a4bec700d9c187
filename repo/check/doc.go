// Package check reads a whole store and reports what is wrong with it.
//
// It defines what a sound store is. Hosts run it to see whether a disk, a backup or a migration has
// lost anything. Package storagetest runs it on every backend. It checks
//
//   - each repository, in one snapshot: the commit block is that of the head and is signed with the
//     account's key; the tree of the records has the signed root; each record is valid, has a valid
//     path, matches its CID, has an existing revision, and is found by its CID; the index of blobs
//     has exactly the references in the records;
//   - blobs: each blob that a record refers to exists, and its bytes match its CID;
//   - the log of events: numbers ascend within the bounds; each message is well-formed and about
//     its account; each commit's operations, undone, lead to the state that it claims to follow;
//   - other data of accounts, if the host provides a check: see Others of [Checker].
//
// A fault is a [Problem]. What is unusual but sound is only counted and listed: blobs that may be
// missing, and accounts whose revision is in the future.
//
// The store may be written to during the check; concurrent changes cause no reports. Accounts and
// events are read one after another, so memory does not grow with their number (except with Strict
// of [Options]).
package check
