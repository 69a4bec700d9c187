// Package pdstest is an AT Protocol network in the process of a test: a did:plc directory, any
// number of PDSes, a relay that verifies all their messages, and a mailbox.
//
//	func TestNotes(t *testing.T) {
//		net := pdstest.New(t)
//		pds := net.PDS()
//		alice := pds.Account("alice")
//		note := alice.Create("com.example.note", map[string]any{"text": "hello"})
//		…
//		net.Clock.Advance(time.Hour)
//	}
//
// An app that logs in by OAuth, with a browser that signs in and consents, takes three lines:
//
//	app := net.App("atproto repo:com.example.note").Login(alice)
//	_, err := api.RepoCreateRecord(ctx, app, …)
//	err = app.Renew(ctx)
//
// Nothing leaves the process: servers are reached by name over pipes, with the client of
// [Network.Client], so a test needs no ports and works inside a bubble of testing/synctest too.
// When the test ends, everything is shut down. If a message of a server did not verify, the test
// fails.
package pdstest
