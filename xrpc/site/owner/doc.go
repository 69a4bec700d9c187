// Package owner has the pages on which owners manage their accounts: signed-in browsers and apps,
// the permissions of apps, app passwords, the password and second factors, e-mail address and
// handle, their data, and the deletion of the account.
//
//	pages := owner.New(owner.Config{Site: site, Service: accounts, OAuth: provider.Apps()})
//	pages.Mount(mux)
//
// They are below /account/, and need no scripts: see package site. Owners sign in on the page of
// package oauth/pages, which leads back here. Several accounts may be signed in in one browser, so
// the path of a page names the account: /account/DID/PAGE. Links without a DID use /account/-/PAGE.
//
// # Authorization
//
// A page acts with the sign-in of its browser, which is checked in the transaction of each change:
// see [site.Site.Caller]. Somebody else may find the browser open. So dangerous changes need a
// sign-in that is at most five minutes old, with everything that the account demands: the password
// with the second factor, or a passkey. This is the only way to prove the owner's identity; there
// is no weaker one. If the sign-in is older, the page leads to the sign-in page and back. Ending
// something, such as a sign-in or an app's access, needs no such proof.
//
// App passwords cannot be used to sign in here. If the server sends mail, the owner is notified of
// each change by the part that makes it.
package owner
