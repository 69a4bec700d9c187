// Package storage is the contract between a host of repositories and its storage backend. It has
// four small interfaces (Repos, Events, Blobs, KV). A [Store] combines them, from one backend or
// from several.
//
// # Laws
//
// Every backend keeps these laws; package storagetest checks them. A step is one atomic change: one
// call of Apply, Replace or Delete.
//
//   - A step is atomic. It writes the head, the records, the blob references, the key-value pairs
//     and the events together, or nothing.
//   - A step is durable when the method returns nil.
//   - A step is a compare-and-swap. It takes effect only if the stored head is the one that the
//     caller worked from. Otherwise the error is ErrConflict, and nothing is written. This holds
//     between processes too, if the backend can be shared by several.
//   - Sequence numbers are positive and never go back. Each is greater than all before it, and not
//     less than the time in microseconds when it was assigned. So a store restored from a backup
//     continues beyond what its readers have seen. Numbers may have gaps. After the clock was
//     ahead, they stay ahead of the time until it has caught up: see NextSeq.
//   - The log has a visible prefix: a reader that has seen number n never sees a smaller one
//     appear.
//   - A View is a snapshot. Changes made while it is open do not show in it.
//   - A method that returns an error has changed nothing, unless its comment says otherwise. When
//     the context ends, methods return its error.
//   - All methods may be called concurrently.
//   - Bytes that a method is given stay the caller's. The store copies what it keeps before the
//     method returns; of a stream, before it asks for the next element. The store does not change a
//     Change and its slices. Slices of bytes that a method returns or yields become the caller's.
//     They stay valid after a Reader has ended, and changing them changes nothing in the store.
//   - A call never waits forever for another call of the same goroutine: see Repos.View,
//     Repos.Replace and KV.Write for what their functions may call.
//
// # Records are the repository
//
// A backend keeps records in path order and the signed commit. It does not keep the nodes of the
// tree, which are computed from the records (see package repo). Paths compare as bytes.
package storage
