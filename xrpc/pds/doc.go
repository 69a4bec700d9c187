// Package pds is a complete AT Protocol Personal Data Server as one value: accounts, sessions,
// repositories, blobs, event stream, identity, forwarding to an AppView, and moderation, over any
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
// New completes the changes of accounts that a crash interrupted. It starts no goroutines. The
// server can then serve requests. Run does the background work until its context ends: it checks
// the clock, asks relays to read the server, and deletes what is no longer used. At its end it ends
// all subscriptions. So end a server in this order: the context of Run; the listener
// (http.Server.Shutdown); Close, which sends waiting mail; the store.
//
// A process that does not run between requests, such as a Durable Object, calls [Server.Due] and
// [Server.Maintain] instead of Run.
//
// # Apps
//
// Apps get access by OAuth, on pages in the colours of Config.Brand (see packages provider and
// pages). An app's session is accepted wherever a password session is, with the permissions of its
// scopes: for methods, for writes, and for forwarded calls. It ends when the account's other
// sessions end; a write that is running then writes nothing. The provider's keys are derived from
// the last of Secrets.MasterKeys. Package pdstest has apps for tests.
//
// # Smaller programs
//
// Two build tags leave parts out of the program. With nopages there are no pages for users, and so
// no OAuth, which needs a consent page: Server.Site, Server.OAuth and Server.Passkeys are nil, and
// apps need passwords. With nopasskeys there are all pages, but no sign-in with passkeys (see
// package passkey).
//
// # Other parts
//
// Every part can be replaced. Config has a field for each, with a useful default. The resulting
// parts are fields of the Server. Methods can be replaced and wrapped until the first request:
//
//	server.Methods.Replace(xrpc.Route{NSID: "com.atproto.server.describeServer", Handler: …})
//	server.Methods.With("com.atproto.repo.uploadBlob", func(rt xrpc.Route) xrpc.Route { … })
//	server.Mux.HandleFunc("GET /about", …)
//
// A custom method that writes records of its caller calls Server.Repos.Write, which checks
// permissions, session and account as createRecord does. A program creates accounts with
// Server.Service.CreateAccount, for example that of a single-user server.
//
// A server with another kind of accounts mounts the packages below by itself: xrpc/atproto serves
// repositories for any directory of accounts, xrpc/session serves logins, and xrpc/atproto/server
// serves accounts. This package only combines them.
package pds
