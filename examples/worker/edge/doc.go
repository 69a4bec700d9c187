// Package edge composes a PDS for a process that does not run between requests, such as a
// Cloudflare Durable Object. It uses no files, no sockets, and no timers while idle; an alarm does
// the background work. It builds for every system, and its tests run natively over a store in
// memory. The program of examples/worker runs it over package storage/cloudflare.
//
// A server is for one account or for many, depending on whether its host name is in PDS_HOSTNAMES
// or is PDS_HOSTNAME:
//
//   - One account: the object's host name is also the account's handle. Its repository, event
//     stream, blobs, sessions and pages are its own, and nothing is shared.
//   - Many accounts: one object is a host of accounts with handles below its name. With
//     PDS_ACCOUNT_OBJECTS, each account has its own object, and two further ones have the shared
//     parts: see [Part].
package edge
