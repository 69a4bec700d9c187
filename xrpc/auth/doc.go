// Package auth says who makes a request and what they may do. It does no I/O: authenticators of
// other packages verify credentials and return a [Principal]; handlers ask the principal for a
// [Permission].
//
//	p := auth.Principal{Role: auth.User, DID: did, Permissions: auth.AppPassword(false)}
//	err := p.Demand(auth.Write("create", "com.example.note"))
//
// All kinds of credentials end in the same set of permissions. A session that was opened with the
// account's password has [Everything], an app password has [AppPassword], and the permissions of an
// OAuth session are its scopes, parsed by [ParseScopes]:
//
//	scopes, ignored := auth.ParseScopes("atproto repo:com.example.note rpc:*?aud=did:web:a.example%23s")
//	scopes.Allow(auth.Write("delete", "com.example.note")) // true
//
// Some permissions have no scope: what manages credentials or ends the account. So no OAuth client
// can be granted them. See [ManageCredentials] and [ManageLifecycle].
//
// Specifications: OAuth (scopes), Permissions.
package auth
