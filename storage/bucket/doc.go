// Package bucket keeps blobs in an object store, such as S3 or R2: the bytes are objects of a
// [Bucket], and what is known of them are rows of a storage.KV.
//
// # Objects
//
// Every upload gets a name of its own: the time when it began, and 128 random bits. Objects never
// change, are never copied and never renamed. A row says which object has the bytes of which blob.
// So a blob is staged, promoted, given another type or deleted by one transaction on a few rows,
// and a bucket needs no conditional writes, no copies and no metadata: four methods make one.
//
// # Crash safety
//
// A blob is there when its row is. The object is written before the row, and deleted after it, so
// that no row ever names an object that is missing. What a crash leaves is an object without a row:
//
//   - A transaction that removes a blob also notes the name of its object. The object is deleted
//     afterwards, and then the note. Collect deletes what is still noted.
//   - An upload that was cut off leaves an object that nothing names. Collect compares the bucket's
//     listing with the rows, a bounded number of pages each time, and deletes such objects when
//     they are older than Config.OrphanAge.
//
// A process that was suspended between upload and transaction might write a row for an object that
// was deleted as an orphan in the meantime. To prevent that, Collect first stores the time before
// which it deletes orphans, and the transaction of an upload that began before that time fails with
// [ErrExpired]. An upload never begins before that time, whatever the clock says. So no clock that
// is wrong loses anything: one that was far ahead only delays the deletion of orphans.
//
// # Sharing
//
// Several processes may use one KV and bucket. A bucket may hold other things, and other stores:
// the first Open stores a random number, which begins the names of the objects, and a store
// never touches objects with another one. Two copies of one KV, such as a production database and a
// clone of it for tests, have the same number: they must not share a bucket, since each takes
// for orphans what the other one uploads. Give the clone credentials that can only read.
//
// # Backups
//
// A backup of the KV names objects; it does not hold them. To be able to go back to a backup of
// yesterday, objects must outlive their blobs by that time: see Config.KeepDeleted.
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
