// Package owner is the pages on which people look after their accounts: which browsers and apps are
// signed in, what apps may do, app passwords, the password and second factors, e-mail address and
// handle, their data, and the end of it all.
//
//	pages := owner.New(owner.Config{Site: site, Service: accounts, OAuth: provider.Apps()})
//	pages.Mount(mux)
//
// They are below /account/, and need no scripts: see package site, to which they belong. People
// sign in on the page of package oauth/pages, which leads back here. Several accounts may be signed
// in in one browser, so the address of a page names the account: /account/DID/PAGE. Whoever has no
// DID at hand links to /account/-/PAGE.
//
// # Who may do what
//
// A page acts by the sign-in of its browser, which is looked at in the transaction that changes
// something: see [site.Site.Caller]. What could be turned against the owner by somebody who finds
// the browser open needs a sign-in that is at most five minutes old, whatever was shown to sign in:
// the password with the second factor that the account asks for, or a passkey. So there is one way
// to prove who one is, which has no weaker brother. If it is too old, the page leads to the sign-in
// page, and back. To end something, such as a sign-in, or what an app may do, needs no such proof.
//
// App passwords sign nobody in here. Everything that a page changes is said to the owner by mail by
// the parts that change it, where the server sends mail.
package owner
