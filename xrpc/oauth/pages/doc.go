// Package pages has the user interface of OAuth: pages to sign in, choose or create an account,
// decide about an app's permissions, and reset a forgotten password. It implements [provider.Pages]
// and [provider.Logins].
//
//	web := pages.New(pages.Config{Site: site, Passwords: sessions, Service: accounts})
//	web.Mount(mux)
//	oauth := provider.New(provider.Config{Logins: web, Pages: web, …})
//	oauth.Mount(mux)
//
// Package site provides the look and protection of pages, and the browsers with their sign-ins.
// Pages are in the browser's language, or in the language that the app requests.
//
// With Passkeys in [Config], the sign-in page supports passkeys too, with the only script of
// package site: the browser offers them in the name field, and there is a button. A passkey with
// user verification replaces the password and the second factor. Everything else works without
// scripts.
//
// Each page and each form extends the app's request by five minutes, up to an hour in all.
//
// The state of a request is passed from page to page in the forms, with a MAC for the browser. So
// nobody can make another person's browser sign in, and pages lead only back to the request, or to
// the account's own pages.
package pages
