// Package pages is what people see of OAuth: they sign in, choose an account, make one, decide what
// an app may do, and get back in when they have forgotten their password. It is a [provider.Pages]
// and a [provider.Logins].
//
//	web := pages.New(pages.Config{
//		Credentials: credentials, Passwords: sessions, Service: accounts,
//		Issuer: "https://pds.example.com", Secret: secret,
//		Brand: pages.Brand{Name: "Example"},
//	})
//	web.Mount(mux)
//	oauth := provider.New(provider.Config{Logins: web, Pages: web, …})
//	oauth.Mount(mux)
//
// Pages are made on the server and have no scripts. They are in the browser's language, or in the one
// that the app asks for.
//
// # Browsers
//
// A browser is known by a cookie: a name, and a secret that changes with each sign-in. So a cookie
// that somebody has planted or seen before is worth nothing after it. An earlier secret shows no
// accounts, and ten minutes after it was replaced its use ends the browser's sign-ins, since it is
// in two hands. A browser that nobody has signed in with is not stored.
//
// A sign-in is stored with its account. The transaction that makes it checks the password's proof and
// the second factor once more. It ends with all else that a change of the account's credentials ends:
// see package account. In a browser that is not to be remembered, it is good for the one request that
// it was made for.
//
// # Forms
//
// Every form has a token, which is made for one browser, one form and one request. A form must be
// sent with the server's own Origin, has at most 64 KiB, and no field twice. Between pages, what a
// request is about travels in the forms, under a MAC for the browser. So nobody can make another
// person's browser sign in, and no page leads anywhere but back to the request.
//
// # What is stored
//
//	oauth/device/HASH  host     a browser: hashes of its secrets, and its accounts; expires
//	oauth/device/HASH  account  a sign-in of the account in that browser; expires
package pages
