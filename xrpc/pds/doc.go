// Package pds is a whole AT Protocol Personal Data Server as one value: accounts, sessions,
// repositories, blobs, event stream, identity, forwarding to an AppView, moderation, over any
// backend of package storage.
//
//	db, err := sqlite.Open(ctx, "pds.sqlite", sqlite.Config{})
//	secrets, err := pds.ReadSecrets("pds.secrets") // made at the first start
//	server, err := pds.New(pds.Config{
//		URL:     "https://pds.example.com",
//		Store:   db.Store(),
//		Secrets: secrets,
//		AppView: pds.Bluesky,
//	})
//	go server.Run(ctx)
//	err = http.ListenAndServe(":2583", server)
//
// # Start and end
//
// New finishes the changes of accounts that a crash interrupted, and starts nothing. The server can
// serve requests from then on. Run does the work beside them until its context ends: it watches the
// clock, asks relays to read the server, deletes what is no longer used. At its end it ends all
// subscriptions. So the order at the end is: the context of Run; the listener
// (http.Server.Shutdown); Close, which sends the mail that is waiting; the store.
//
// A process that does not run between requests, as one in a Durable Object, calls [Server.Due] and
// [Server.Maintain] in the place of Run.
//
// # Apps
//
// Apps are let in by OAuth, on pages in the colours of Config.OAuth (see packages provider and
// pages). An app's session is good wherever one of a password is, with the permissions that its
// scopes grant: for methods, for what is written, and for calls that are passed on. It ends with
// what ends the account's other sessions, and a write that is under way then writes nothing. The
// provider's keys are derived from the last of Secrets.MasterKeys. Package pdstest has apps for
// tests of hosts.
//
// # Smaller programs
//
// Where the size of a program matters, two build tags leave parts out. With nopages there are no
// pages for people, and so no OAuth, whose consent is given on one: Server.Site, Server.OAuth and
// Server.Passkeys are nil, and apps need passwords. With nopasskeys there are all pages, but nobody
// signs in by passkeys (see package passkey).
//
// # Other parts
//
// Every part can be another one. Config names the parts that a server is made of, and the zero
// value of each is a useful default. The parts that were made are fields of the Server. Its methods
// can be replaced and wrapped until the first request:
//
//	server.Methods.Replace(xrpc.Route{NSID: "com.atproto.server.describeServer", Handler: …})
//	server.Methods.With("com.atproto.repo.uploadBlob", func(rt xrpc.Route) xrpc.Route { … })
//	server.Mux.HandleFunc("GET /about", …)
//
// A method of one's own that writes records of its caller calls Server.Repos.Write, which checks
// permissions, session and account as createRecord does. A program makes accounts with
// Server.Service.CreateAccount, as that of the one user of a server.
//
// A server that needs no accounts of this kind mounts the packages below on its own: xrpc/atproto
// serves repositories over a directory of any accounts, xrpc/session the logins,
// xrpc/atproto/server the accounts. This package only puts them together.
package pds
