// Package storage is the contract between a host of repositories and whatever
// keeps them: four small interfaces (Repos, Events, Blobs, KV) that a Store puts
// together, from one backend or from several.
//
// # Laws
//
// Every backend keeps these; package storagetest checks them.
//
//   - A step is atomic. Apply, Replace and Delete write the head, the records,
//     the blob references, the key-value pairs and the events together, or nothing.
//   - A step is durable when the method returns nil.
//   - A step is a compare-and-swap. It takes effect only if the stored head is the
//     one the caller worked from; else the error is ErrConflict and nothing is written.
//     That holds between processes too, where the backend can be shared by several.
//   - Sequence numbers are positive and never go back: each is greater than all
//     before it, and not less than the time in microseconds when it was assigned, so that a
//     store restored from a backup goes on beyond what its readers have seen. They may have gaps.
//     After a clock that was ahead they are ahead of the time, and stay so until it has caught up:
//     see NextSeq.
//   - The log has a visible prefix: who has seen number n never sees a smaller one
//     appear.
//   - A View is a snapshot. What is applied while it runs does not show in it.
//   - A method that returns an error has changed nothing, save where its comment
//     says otherwise. When the context ends, methods return its error.
//   - All methods may be called concurrently.
//   - Bytes that a method is given stay the caller's: the store copies what it keeps, before the
//     method returns or, of a stream, before it asks for more. Bytes that a method returns or
//     yields become the caller's: they stay as they are, also after a Reader has ended, and to
//     change them changes nothing in the store. That holds for slices; a Change and its slices are
//     not changed by the store either.
//   - A call never waits for good on another one of the same goroutine: see Repos.View,
//     Repos.Replace and KV.Write for what their functions may call.
//
// # Records are the repository
//
// A backend keeps records in path order and the signed commit, not the nodes of
// the tree, which are computed from the records (see package repo). Paths compare
// as bytes.
package storage
