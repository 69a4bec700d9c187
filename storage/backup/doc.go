// Package backup makes backups of a server that runs, keeps generations of them, and restores them.
//
// What is backed up is a database in one file, whose engine can copy it while it is written to
// ([Database]; *sqlite.DB is one), the folder of a blobfs store, and a few small files that a host
// names. Package check says whether what was restored is whole.
//
// # Generations
//
// A backup's directory has one or more generations, each the database as it was at one moment, and
// one folder with the blobs of all of them. With the names of the zero [Layout]:
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
// A generation never changes. It is made under another name, verified (the database by its engine,
// what is in it by Backup.Verify, every blob), and renamed when it is complete: so whenever a backup
// is interrupted, the older generations are as they were.
//
// Blobs, whose files never change, are copied before and after the copy of the database: so the
// backup has every blob that its database refers to, even those that are deleted meanwhile. A blob
// that is in the backup already is not copied again if it is good there. It is deleted when no
// generation that is kept refers to it: never because the server no longer has its file, since then
// the backup may be all that is left of it.
//
// Blobs in an object store are not copied ([Source].Elsewhere): the backup says where they are.
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
// The manifest is the last object that is stored: before, there is no generation. Every object that
// is stored is read again and compared, unless [Backup].Fast is set; of all others the sizes are
// compared, when the backup begins and before it counts. Requests that fail by an error that may pass
// are repeated for two minutes. A backup that was killed leaves blobs that the next one finds,
// but for the last 256 or 64 MiB. Memory does not grow with the sizes of files: four blobs are sent
// at a time, each of which takes up to two parts of an upload, and each blob that there is takes
// some 300 bytes.
//
// With an [Encryption], all is encrypted but manifests and lists. What lies in the clear says when
// backups were made, the name of the host, how many blobs there are, and their digests and sizes:
// so a backup needs no key that decrypts. A bucket whose objects are kept in versions, or locked for
// some time, protects backups from who has the server's credentials.
//
// Two backups at once are refused: in one directory by a lock of its file system, elsewhere by an
// object that is renewed. One that can no longer be sure of that, as after the machine was suspended,
// removes nothing.
//
// A tar file has one generation with its blobs, and no list. An unpacked one is a directory that
// can be restored, and so is a backup of an earlier version, which had one generation beside its
// blobs; a backup into that directory adds a generation and drops or keeps the old one like any
// other.
package backup
