// Package provider is an OAuth authorization server for the accounts of a host, after the OAuth
// profile of the AT Protocol: authorization requests are pushed (PAR), clients prove keys (DPoP,
// PKCE), and a client_id is the address of the client's metadata.
//
// The package implements the protocol and stores its state. The host implements two interfaces:
// [Logins] says which accounts are signed in in a browser, and [Pages] shows people what they are
// asked.
//
//	oauth := provider.New(provider.Config{
//		Accounts: accounts, Issuer: "https://pds.example.com", ServiceDID: "did:web:pds.example.com",
//		Secret: secret, Logins: logins, Pages: pages,
//	})
//	oauth.Mount(mux)
//
// [Provider.Authenticate] checks the access tokens of requests to methods of package xrpc. Package
// xrpc/session combines them with password sessions:
//
//	sessions := session.New(session.Config{
//		…
//		OAuth: oauth,
//	})
//
// # The way of a request
//
// A client pushes a request, and gets a request_uri. The client sends a person with the request_uri
// to /oauth/authorize. The request is then bound to the first browser that opens that page: another
// browser or client can neither use nor end it. The provider asks [Pages] for what is needed: a
// sign-in, a choice between accounts, or consent. The consent form is submitted to /oauth/authorize
// with the granted scopes, which may be fewer than the requested ones. The client gets a code by a
// redirect, and exchanges it for tokens.
//
// If a request_uri is unknown, or does not belong to the client_id, there is no redirect: the
// person sees an error. Parameters that were not pushed are refused. A client's silent sign-in
// (prompt=none) needs a client that no other app can impersonate, and gives the scopes that were
// granted before, not the requested ones. prompt=login, max_age and login_hint are enforced at the
// consent too, not only on the pages.
//
// A request is valid for five minutes. Each page that its browser loads extends that to five
// minutes from then, up to an hour in all. Sign-ins of several pages keep a request open with
// [Requests].
//
// [Apps] lists the apps that have access to an account and revokes them. It needs no Provider.
//
// # Tokens
//
// An access token is valid for 15 minutes, with proofs of the client's key, and only while its
// session exists: each use checks the session and the account. A refresh token can be used once.
// For one minute more, the same client with the same keys gets the same successor, in case a
// response was lost or two requests ran at once. A later use ends the session, since somebody else
// may have the token. A request without the client's key never ends a session.
//
// A session of a public client lasts two weeks. A session lasts up to two years, but at most 90
// days without use, if the client proves its own key (private_key_jwt) or the operator trusts it.
//
// A change of an account's credentials (see package account) ends all its sessions and forgets what
// was granted.
//
// # What is stored
//
// A session, its codes and grants are stored in the account's own namespace. So the exchange of a
// code and the use of a refresh token are one transaction each. Pending requests and used proofs
// are stored in the host's namespace. Secrets are stored as hashes. All documents have a version.
//
//	oauth/session/NAME    account  a session; expires
//	oauth/code/HASH       account  a code; expires
//	oauth/challenge/HASH  account  a code challenge that was used; expires
//	oauth/grant/HASH      account  what was granted to a client
//	oauth/request/HASH    host     an authorization request; expires
//	oauth/proof/DIGEST    host     a proof or assertion that was used; expires
//
// Specifications: RFC 6749, 7009, 7523, 7636, 8414, 9126, 9207, 9449, 9728, the client_id metadata
// document draft, and the OAuth page of atproto.com.
package provider
