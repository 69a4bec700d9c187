package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"

	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// A web app with a form to log in. It runs on a developer's machine here: on the web, it has
// Metadata of its own, and no Development.
func Example() {
	server, stop := localServer() // stands for the account's PDS
	defer stop()

	mux := http.NewServeMux()
	site := httptest.NewServer(mux)
	defer site.Close()
	app, err := client.New(client.Config{
		Metadata:  client.Loopback("atproto repo:com.example.note", "/callback"),
		Sessions:  &client.Stored{KV: memory.New(memory.Config{}).KV},
		Discovery: &client.Discovery{Development: true},
	})
	if err != nil {
		panic(err)
	}
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		err := app.StartHTTP(w, r, client.Login{
			Account: r.FormValue("account"), RedirectURI: site.URL + "/callback", AppState: []byte("/notes"),
		})
		switch {
		case errors.Is(err, client.ErrInput):
			http.Error(w, "Type a handle, such as alice.example.com.", http.StatusBadRequest)
		case err != nil:
			http.Error(w, "Your server cannot be reached, or does not know this kind of login.", http.StatusBadGateway)
		}
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		session, page, err := app.FinishHTTP(w, r)
		var refused *client.CallbackError
		switch {
		case errors.As(err, &refused) && refused.Code == "access_denied":
			http.Error(w, "You did not let the app in.", http.StatusForbidden)
			return
		case err != nil:
			http.Error(w, "That did not work. Please try again.", http.StatusBadRequest)
			return
		}
		// A real app puts session.ID() into a cookie that browsers cannot change.
		err = session.Client().Procedure(r.Context(), "com.atproto.repo.createRecord", map[string]any{
			"repo": session.DID(), "collection": "com.example.note",
			"record": map[string]any{"$type": "com.example.note", "text": "hello"},
		}, nil)
		fmt.Fprintln(w, "back to", string(page), err)
	})

	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	res, err := browser.PostForm(site.URL+"/login", url.Values{"account": {server.did}})
	if err != nil {
		panic(err)
	}
	defer res.Body.Close()
	var text [100]byte
	n, _ := res.Body.Read(text[:])
	fmt.Print(string(text[:n]))
	// Output:
	// back to /notes <nil>
}

// A command-line program. It keeps its sessions in a directory of its user, and asks for a login
// when there is none.
func ExampleClient_LoginLocal() {
	server, stop := localServer()
	defer stop()

	ctx := context.Background()
	app, err := client.New(client.Config{
		Metadata:  client.Loopback("atproto repo:com.example.note", "/callback"),
		Sessions:  &client.Memory{}, // a real program: &client.Files{Dir: …}
		Discovery: &client.Discovery{Development: true},
	})
	if err != nil {
		panic(err)
	}
	var session *client.Session
	for s, err := range app.Sessions(ctx, "") {
		if err != nil {
			panic(err)
		}
		session = s
	}
	if session == nil {
		session, err = app.LoginLocal(ctx, client.Login{Account: server.did}, func(address string) error {
			fmt.Println("Open this page in a browser.") // and print the address
			go http.Get(address)                        // as the person does
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	fmt.Println("Logged in:", string(session.DID()) == server.did)
	// Output:
	// Open this page in a browser.
	// Logged in: true
}

// A job that works for all accounts that have let the app in, in the background. Sessions renew
// their tokens by themselves. Some end meanwhile: their accounts have to log in again.
func ExampleClient_Resume() {
	server, stop := localServer()
	defer stop()

	ctx := context.Background()
	store := &client.Memory{} // in a real app, what all its processes share: client.Stored, or a database
	app, err := client.New(client.Config{
		Metadata:  client.Loopback("atproto", "/callback"),
		Sessions:  store,
		Discovery: &client.Discovery{Development: true},
		OnEnd:     func(i client.Info, why client.EndReason) { fmt.Println("ask the account to log in again:", why) },
	})
	if err != nil {
		panic(err)
	}
	if _, err := app.LoginLocal(ctx, client.Login{Account: server.did}, func(address string) error { go http.Get(address); return nil }); err != nil {
		panic(err)
	}

	job := func() {
		for id, err := range store.List(ctx, "") {
			if err != nil {
				panic(err)
			}
			session, err := app.Resume(ctx, id)
			if err == nil {
				err = session.Client().Query(ctx, "com.atproto.server.getSession", nil, nil)
			}
			switch {
			case errors.Is(err, client.ErrSessionEnded): // OnEnd was told
			case errors.Is(err, client.ErrTemporary): // the job comes again
			case err != nil:
				fmt.Println(err)
			default:
				fmt.Println("done")
			}
		}
	}
	job()
	server.do(func() { server.ended = true }) // the account has ended it in its settings
	job()
	// Output:
	// done
	// ask the account to log in again: refused
}

// Who hosts an account, and who speaks for it.
func ExampleDiscovery() {
	server, stop := localServer()
	defer stop()

	d := client.Discovery{Development: true} // on the web: the zero value
	found, err := d.Find(context.Background(), server.did)
	if err != nil {
		panic(err)
	}
	fmt.Println(found.DID == "" || found.PDS == "", found.Server.Issuer == server.origin)
	// Output:
	// false true
}
