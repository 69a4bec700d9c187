// Package site is the common base of a server's pages: their look, languages, protection and forms,
// and the browsers in which accounts are signed in. Packages of pages, such as oauth/pages, build
// on it, and a host's own pages can:
//
//	//go:embed templates messages
//	var files embed.FS
//
//	var set = site.NewSet(files)
//
//	type hello struct {
//		site.Page
//		Name string
//	}
//
//	mux.Handle("/hello", s.Serve(set, site.Handler{
//		Get:  func(c *site.Call) error { return c.Show("hello", &hello{Page: c.Page("hello.title")}) },
//		Post: func(c *site.Call) error { return c.Show("hello", &hello{c.Page("hello.title"), c.Form.Get("name")}) },
//	}))
//
// with, in templates/hello.html,
//
//	{{define "body"}}<p>{{.T "hello.to" "name" .Name}}</p>
//	<form method="post" action="/hello">{{template "hidden" (.Hidden "/hello")}}
//	<label for="name">{{.T "hello.name"}}</label><input type="text" id="name" name="name">
//	{{template "wrong" (.Wrong "name")}}<button class="main">{{.T "hello.do"}}</button></form>{{end}}
//
// and its messages in messages/en.txt and the other five languages. Pages are rendered on the
// server and work without scripts. The Content-Security-Policy allows only one script, for
// passkeys, on pages that use it: see [PasskeyScript].
//
// # Browsers
//
// A browser is identified by a cookie: a name, and a secret that changes with each sign-in. So a
// cookie that an attacker has planted or seen becomes worthless at the next sign-in. An earlier
// secret shows no accounts. If it is used later than ten minutes after it was replaced, the
// browser's sign-ins end, since two parties have the cookie. A browser without sign-ins is not
// stored.
//
// A sign-in is stored with its account. The transaction that creates it checks the proof of the
// password and the second factor again. It ends when the account's credentials change: see package
// account. In a browser that is not to be remembered, it lasts a day, or only for the app's request
// for which it was made. Changes for an account in a browser use [Site.Caller], which is checked in
// the transaction of the change.
//
// # Forms
//
// Every form has a token for one browser, one path and one flow: see [Call]. A form must be sent
// with the server's own Origin, has at most 64 KiB, and no duplicate fields. Values that a page
// passes to the next one are in the forms, with a MAC for the browser: see [Sealer].
//
// # What is stored
//
//	oauth/device/HASH  host     a browser: hashes of its secrets, and its accounts; expires
//	oauth/device/HASH  account  a sign-in of the account in that browser; expires
package site
