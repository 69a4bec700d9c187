// Package site is what the pages of a server have in common, whoever makes them: how they look, in
// which languages they speak, what protects them and their forms, and the browsers in which
// accounts are signed in. Packages of pages stand on it, such as oauth/pages, and a host's own:
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
// and its messages in messages/en.txt and the other five languages. Pages are made on the server
// and work without scripts. They may run none but the one for passkeys, where a page has it: see
// the Content-Security-Policy that they are sent with, and [PasskeyScript].
//
// # Browsers
//
// A browser is known by a cookie: a name, and a secret that changes with each sign-in. So a cookie
// that somebody has planted or seen before is worth nothing after it. An earlier secret shows no
// accounts, and ten minutes after it was replaced its use ends the browser's sign-ins, since it is
// in two hands. A browser that nobody has signed in with is not stored.
//
// A sign-in is stored with its account. The transaction that makes it checks the password's proof
// and the second factor once more. It ends with all else that a change of the account's credentials
// ends: see package account. In a browser that is not to be remembered, it lasts a day, or is good
// for the one request of an app that it was made for. What is done for an account in a browser is
// done by [Site.Caller], which is looked at in the transaction that does it.
//
// # Forms
//
// Every form has a token, which is made for one browser, one path and one flow: see [Call]. A form
// must be sent with the server's own Origin, has at most 64 KiB, and no field twice. What a page
// remembers for the next one travels in the forms, under a MAC for the browser: see [Sealer].
//
// # What is stored
//
//	oauth/device/HASH  host     a browser: hashes of its secrets, and its accounts; expires
//	oauth/device/HASH  account  a sign-in of the account in that browser; expires
package site
