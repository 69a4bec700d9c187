// Package edge puts a PDS of pdskit together for a process that rests between requests, such as a
// Cloudflare Durable Object: there are no files, no sockets, and no timers at rest, and an alarm
// does what a server elsewhere does in the background. It builds for every system, and its tests
// run natively over a store in memory. The program of examples/worker runs it over package
// storage/cloudflare.
//
// A server is for one account or for many, as its host name is in PDS_HOSTNAMES or is PDS_HOSTNAME:
//
//   - One account: the object's host name is the account's handle too. Its repository, event
//     stream, blobs, sessions and pages are its own, and nothing is shared.
//   - Many accounts: one object is a host of accounts with handles below its name. With
//     PDS_ACCOUNT_OBJECTS, each account has an object of its own, and two further ones are what
//     they have in common: see [Part].
package edge
