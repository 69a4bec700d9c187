// Package auth describes the caller of a request and what the caller may do. It does no I/O.
// Authenticators of other packages verify credentials and return a [Principal]. Handlers demand a
// [Permission] of it.
//
//	p := auth.Principal{Role: auth.User, DID: did, Permissions: auth.AppPassword(false)}
//	err := p.Demand(auth.Write("create", "com.example.note"))
//
// All kinds of credentials give the same kind of permission set. A session with the account's
// password has [Everything]. An app password has [AppPassword]. The permissions of an OAuth session
// are its scopes, parsed by [ParseScopes]:
//
//	scopes, ignored := auth.ParseScopes("atproto repo:com.example.note rpc:*?aud=did:web:a.example%23s")
//	scopes.Allow(auth.Write("delete", "com.example.note")) // true
//
// Some permissions have no scope: those to manage credentials or to end the account. So an OAuth
// client cannot get them. See [ManageCredentials] and [ManageLifecycle].
//
// Specifications: OAuth (scopes), Permissions.
package auth
