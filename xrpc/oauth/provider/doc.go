// Package provider is an OAuth authorization server for the accounts of a host, after the OAuth
// profile of the AT Protocol: authorization requests are pushed (PAR), clients prove keys (DPoP, PKCE),
// and a client_id is the address of the client's metadata.
//
// It speaks the protocol and keeps its state. Two interfaces of the host's do the rest: [Logins] says
// who is signed in in a browser, and [Pages] shows people what they are asked.
//
//	oauth := provider.New(provider.Config{
//		Accounts: accounts, Issuer: "https://pds.example.com", ServiceDID: "did:web:pds.example.com",
//		Secret: secret, Logins: logins, Pages: pages,
//	})
//	oauth.Mount(mux)
//
// Methods of package xrpc take its tokens by [Provider.Authenticate]. Beside password sessions, it is
// the other kind of credentials of package xrpc/session:
//
//	sessions := session.New(session.Config{
//		…
//		OAuth: oauth,
//	})
//
// # The way of a request
//
// A client pushes a request, and gets a request_uri. It sends a person to /oauth/authorize with it. The
// first browser that opens it has it for good: another one, or another client, cannot use it and
// cannot end it. The provider asks [Pages] for what is needed: a sign-in, a choice between accounts,
// or consent. The form of the consent comes back to /oauth/authorize, with what was granted, which may be
// less than what was asked for. The client gets a code by a redirect, and exchanges it for tokens.
//
// As long as a request_uri is not known, or does not belong to the client_id, there is no redirect:
// the person sees an error. Parameters that were not pushed are refused. A client's silent sign-in
// (prompt=none) needs a client that nobody else can pretend to be, and covers what was granted, not
// what was asked for. prompt=login, max_age and login_hint hold at the consent too, not on pages only.
//
// A request is good for five minutes, and for five more from each page that its browser asks for, up to
// an hour in all. Pages of several steps keep it open by [Requests].
//
// What an account has let in is listed and ended by [Apps], which needs no Provider.
//
// # Tokens
//
// An access token is good for 15 minutes, with proofs of the client's key, and only while its session
// goes on: each use looks at the session and the account. A refresh token is good once. It gives the
// same successor for one minute more, to the same client with the same keys, for an answer that was
// lost and for two requests at once. After that, its use ends the session, since it is in two
// hands. Whoever does not have the client's key ends nothing.
//
// A session of a public client lasts two weeks. One of a client that proves a key of its own
// (private_key_jwt), or of one that the operator trusts, lasts two years, and 90 days without use.
//
// A change of an account's credentials (see package account) ends all its sessions and forgets what
// was granted.
//
// # What is stored
//
// A session, its codes and grants lie in the account's own namespace. So the exchange of a code and the
// use of a refresh token are one atomic step each, whatever crashes. In the host's namespace lie
// pending requests and the proofs that were used. Secrets are stored as hashes. All documents have a
// version.
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
