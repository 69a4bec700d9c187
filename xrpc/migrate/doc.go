// Package migrate moves an account from one Personal Data Server to another, with its repository,
// blobs, preferences and identity (Account Migration guide of the AT Protocol). It is a client of
// both servers and uses published methods only, so either may be of any make.
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
// Run looks up where the account is, logs in there, and makes the account at the new server, which
// trusts the old one's word for it. Nothing that matters happens before: wrong passwords, a handle
// that is taken and a missing invite code are errors of this first step.
//
// # Resume
//
// A move takes minutes or hours, and what it changes lasts. So it can be interrupted anywhere, and
// goes on when Run is called again with the same State. Each step either can be repeated without
// harm, or first asks the servers whether it was taken. The state file records the steps that are
// finished, for speed and for what cannot be asked (the old server, the signed operation). It has
// no password and no session, so these are asked for again.
//
// The order of the steps is that of [Steps]. Nothing is deleted at the old server: it stays the
// account's home until everything has arrived and was checked. What is written there meanwhile is
// noticed by its revision and brought along, until the account is activated at the new server.
//
// # End
//
// Run returns nil when the account is active at the new server and not at the old one. One more
// call does nothing. The state file may be deleted then; the exported repository beside it is worth
// keeping for a while.
//
// # Errors
//
// An [*Error] says in which step the move stopped and what to do about it, in words for a person.
// What callers branch on is below it: [ErrInput], [ErrAppPassword], [ErrMissingBlobs],
// [ErrDiffers], [ErrState], and the errors of the servers, which are *xrpc.Error.
//
// Neither server is trusted. Bytes are compared with their CIDs, what the old server signs with
// what it was asked to sign, and what the new server has with what it was sent. Answers are bounded
// in size and time.
package migrate
