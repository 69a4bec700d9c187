// Package bucket keeps blobs in an object store, such as S3 or R2. The bytes are objects of a
// [Bucket]. The metadata is in rows of a [storage.KV].
//
// # Objects
//
// Every upload gets a new object name: the time when it began, and 128 random bits. Objects never
// change, and are never copied or renamed. A row says which object has the bytes of which blob. So
// staging, promoting, deleting a blob and changing its type are each one transaction on a few rows.
// A bucket needs no conditional writes, no copies and no metadata: four methods are enough.
//
// # Crash safety
//
// A blob exists when its row does. The object is written before the row and deleted after it, so no
// row ever names a missing object. A crash leaves an object without a row:
//
//   - A transaction that removes a blob also notes the name of its object. Afterwards the object is
//     deleted, and then the note. Collect deletes the objects that are still noted.
//   - An interrupted upload leaves an object that nothing names, an orphan. Collect compares the
//     bucket's listing with the rows, a bounded number of pages each time. It deletes orphans that
//     are older than Config.OrphanAge.
//
// A process that was suspended between upload and transaction might write a row for an object that
// was deleted as an orphan in the meantime. To prevent that, Collect first stores a cutoff: the
// time before which it deletes orphans. The transaction of an upload that began before the cutoff
// fails with [ErrExpired]. No upload begins before the cutoff, whatever the clock says. So a wrong
// clock loses no data: a clock that was far ahead only delays the deletion of orphans.
//
// # Sharing
//
// Several processes may use one KV and bucket. A bucket may also hold other data and other stores:
// the first Open stores a random number that begins the names of all objects, and a store never
// touches objects with another number. Two copies of one KV, such as a production database and its
// clone for tests, have the same number. They must not share a bucket, since each would treat the
// uploads of the other as orphans. Give the clone read-only credentials.
//
// # Backups
//
// A backup of the KV names objects; it does not contain them. To restore a backup that is a day
// old, objects must stay for a day after their blobs are deleted: see Config.KeepDeleted.
//
// # Rows
//
// All keys begin with "blobs/"; µs is a time in microseconds, of 20 digits:
//
//	blobs/id                 number of the store
//	blobs/cutoff             uploads that began before this time can no longer be completed
//	blobs/sweep              how far the comparison of listing and rows has come
//	blobs/b/DID/DIGEST       a blob: object, size, type, age, whether it is promoted
//	blobs/o/OBJECT           the blob of an object
//	blobs/s/µs/DID/DIGEST    a staged blob, by age
//	blobs/u/DID              how many bytes the account's blobs have
//	blobs/x/µs/OBJECT        an object to be deleted from that time on
package bucket
