// Package archive writes one account to a file, with its records, blobs and preferences, and puts
// that back into the account.
//
//	m, err := archive.ToFile(ctx, accounts, did, "alice.tar", archive.Options{})
//	m, err = archive.Verify(ctx, "alice.tar", archive.Options{})
//	res, err := archive.Import(ctx, accounts, "alice.tar", archive.Options{})
//
// An archive is a tar file, or a folder, of
//
//	repo.car          the repository, as com.atproto.sync.getRepo gives it
//	preferences.json  the private preferences
//	blobs/CID         each blob that a record refers to
//	account.json      the [Manifest], last: an archive without it was cut off
//
// It has neither the account's password nor its keys, so it is no way to another server by itself:
// see package migrate for that. It is for keeping a copy of one's own, and for undoing what an app,
// or somebody who had the password, did to an account that is still there.
//
// Archives are not trusted. What is read is bounded, compared with its CIDs and held against the
// manifest, and the repository must be signed by the account's key. Nothing is changed before all
// of that is done.
package archive
