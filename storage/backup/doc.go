// Package backup backs up a running server, keeps generations of backups, and restores them.
//
// A backup contains three things: a database in one file, whose engine can copy it during writes
// ([Database]; *sqlite.DB implements it), the folder of a blobfs store, and a few small files that
// a host names. Package check checks whether a restored server is complete.
//
// # Generations
//
// A backup's directory has one or more generations, each with the database at one moment, and one
// folder with the blobs of all generations. With the names of the zero [Layout]:
//
//	generations/20261129T033000Z/  a generation, by the time at which it was begun (UTC)
//	    backup.json                its manifest, with the digests of the other files
//	    pds.sqlite                 the database
//	    ...                        the files of Layout.Others
//	    blobs.list                 the blobs that belong to it
//	generations/next/              a generation that is being made
//	pds.sqlite.blobs/              blobs, as in a blobfs store
//	backup.lock                    held while a backup is made
//
// A generation never changes. It is made under another name and verified: the database by its
// engine, its content by Backup.Verify, and every blob. When it is complete, it is renamed. So an
// interrupted backup leaves the older generations unchanged.
//
// The files of blobs never change. They are copied before and after the copy of the database, so
// the backup has every blob that its database refers to, even those that are deleted meanwhile. A
// blob that is already in the backup is not copied again unless it is damaged. It is deleted when
// no kept generation refers to it. It is never deleted because the server no longer has it, since
// then the backup may have the only copy.
//
// Blobs in an object store are not copied ([Source].Elsewhere): the backup names their place.
//
// # In an object store
//
// [Backup.ToRemote] keeps generations in a bucket, such as one of package s3. Below the prefix:
//
//	generations/20261129T033000Z-2f6b11d0/  a generation, with the files that it has in a directory
//	blobs-97d1702df98e5ac4/                 blobs, for one set of recipients; blobs-plain/ without encryption
//	unfinished/                             which blobs a backup that is under way has stored
//	lock/                                   who makes a backup
//
// The manifest is the last object that is stored; without it there is no generation. Every stored
// object is read again and compared, unless [Backup].Fast is set. The sizes of all other objects
// are compared, both at the beginning and before the manifest is stored. Requests that fail with a
// temporary error are repeated for two minutes. The next backup finds the blobs of a backup that
// was killed, except the last 256 blobs or 64 MiB. Memory does not grow with the sizes of files:
// four blobs are sent at a time, each with up to two parts of an upload in memory, and each
// existing blob takes some 300 bytes.
//
// With an [Encryption], everything but manifests and lists is encrypted. The unencrypted parts
// reveal when backups were made, the name of the host, and the number, digests and sizes of blobs.
// So a backup needs no decryption key. A bucket with object versions or object locks protects
// backups from an attacker who has the server's credentials.
//
// Concurrent backups to the same place are refused: in a directory by a file lock, elsewhere by an
// object that is renewed. A backup that is no longer sure to have the lock, for example after the
// machine was suspended, removes nothing.
//
// # Tar files
//
// A tar file has one generation with its blobs, and no list. An unpacked tar file is a directory
// that can be restored. So is a backup of an earlier version, which had one generation beside its
// blobs. A backup into that directory adds a generation, and drops or keeps the old one like any
// other.
package backup
