// Package archive writes one account to a file, with its records, blobs and preferences, and
// restores the account from it.
//
//	m, err := archive.ToFile(ctx, accounts, did, "alice.tar", archive.Options{})
//	m, err = archive.Verify(ctx, "alice.tar", archive.Options{})
//	res, err := archive.Import(ctx, accounts, "alice.tar", archive.Options{})
//
// An archive is a tar file, or a folder, with
//
//	repo.car          the repository, as com.atproto.sync.getRepo gives it
//	preferences.json  the private preferences
//	blobs/CID         each blob that a record refers to
//	account.json      the [Manifest], last: an archive without it was cut off
//
// It has neither the account's password nor its keys, so it cannot move an account to another
// server: see package migrate. It is for an owner's own copy, and for undoing what an app, or
// somebody with the password, has done to an existing account.
//
// Archives are untrusted. Everything is bounded and compared with its CIDs and with the manifest,
// and the repository must be signed by the account's key. Nothing is changed before all of that is
// verified.
package archive
