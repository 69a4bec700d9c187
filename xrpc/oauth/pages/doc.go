// Package pages is what people see of OAuth: they sign in, choose an account, make one, decide what
// an app may do, and get back in when they have forgotten their password. It is a [provider.Pages]
// and a [provider.Logins].
//
//	web := pages.New(pages.Config{Site: site, Passwords: sessions, Service: accounts})
//	web.Mount(mux)
//	oauth := provider.New(provider.Config{Logins: web, Pages: web, …})
//	oauth.Mount(mux)
//
// How pages look and what protects them, and the browsers with their sign-ins, are those of package
// site. Pages are in the browser's language, or in the one that the app asks for.
//
// With [Config.Passkeys], the page to sign in asks for passkeys too, by the one script of package
// site: the browser offers them in the field of the name, and there is a button. A passkey whose
// user the authenticator has verified stands for the password and the second factor. Without
// scripts, and without passkeys, all else works.
//
// Each page and each form gives the request of the app five minutes more, up to an hour in all.
//
// Between pages, what a request is about travels in the forms, under a MAC for the browser. So
// nobody can make another person's browser sign in, and no page leads anywhere but back to the
// request, or to the account's own pages.
package pages
