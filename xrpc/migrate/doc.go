// Package migrate moves an account from one Personal Data Server to another, with its repository,
// blobs, preferences and identity (Account Migration guide of the AT Protocol). It is a client of
// both servers and uses only published methods, so it works with any implementation.
//
//	err := migrate.Run(ctx, migrate.Options{
//		Account: "alice.example.com",
//		NewHost: "https://pds.example.net",
//		State:   "alice.json",
//		Ask:     ask,    // for passwords, and the token that comes by mail
//		Report:  report, // progress
//	})
//
// # Start
//
// Run finds the account's server, logs in there, and creates the account on the new server with a
// service token from the old one. These first steps find wrong passwords, a taken handle or a
// missing invite code, before anything else is changed.
//
// # Resume
//
// A migration takes minutes or hours, and its effects are permanent. So it can be interrupted
// anywhere, and continues when Run is called again with the same State. Each step either can be
// repeated safely, or first asks the servers whether it was done. The state file records the
// completed steps, and what cannot be asked for (the old server, the signed operation). It contains
// no password and no session, so these are asked for again.
//
// [Steps] lists the steps in order. Nothing is deleted on the old server. It stays the account's
// home until everything has arrived and was checked. Writes on the old server in the meantime are
// noticed by the revision and copied too, until the account is activated on the new server.
//
// # End
//
// Run returns nil when the account is active on the new server and not on the old one. Another call
// then does nothing. The state file can be deleted. Keep the exported repository beside it for a
// while.
//
// # Errors
//
// An [*Error] says in which step the migration stopped and what the user should do. It wraps the
// errors that callers branch on: [ErrInput], [ErrAppPassword], [ErrMissingBlobs], [ErrDiffers],
// [ErrState], and the servers' errors, which are *xrpc.Error.
//
// Neither server is trusted. Bytes are compared with their CIDs, the old server's signed operation
// with the requested one, and the data of the new server with what was sent. Responses are bounded
// in size and time.
package migrate
