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
// A tar file has one generation with its blobs, and no list. An unpacked one is a directory that
// can be restored, and so is a backup of an earlier version, which had one generation beside its
// blobs; a backup into that directory adds a generation and drops or keeps the old one like any
// other.
package backup
