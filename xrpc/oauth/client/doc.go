// Package client lets accounts of the AT Protocol log in to an app by OAuth, and calls their PDSes
// on their behalf. It is for services and command-line programs.
//
// An app is a [Client]. Servers know it by the address of its metadata:
//
//	app, err := client.New(client.Config{
//		Metadata: client.Metadata{
//			ID:           "https://app.example.com/oauth-client-metadata.json",
//			RedirectURIs: []string{"https://app.example.com/oauth/callback"},
//			Scope:        "atproto repo:com.example.note",
//		},
//		Keys:     []client.Key{{Signer: key}},
//		Sessions: &client.Stored{KV: kv},
//	})
//	http.Handle("GET /oauth-client-metadata.json", app.MetadataHandler())
//
// Somebody types a handle, and the browser goes to the server of their account:
//
//	err := app.StartHTTP(w, r, client.Login{Account: r.FormValue("handle")})
//
// It comes back to the redirect URI, and a session begins:
//
//	session, _, err := app.FinishHTTP(w, r)
//	…
//	api.RepoCreateRecord(ctx, session.Client(), …)
//
// Later, in any process, the session goes on by its ID:
//
//	session, err := app.Resume(ctx, id)
//
// A program on a person's own machine has no metadata on the web: see [Loopback] and
// [Client.LoginLocal].
//
// # What is checked
//
// Anybody may run a PDS, and any PDS may say anything. So a login is believed only if all sides
// agree: the handle points at the DID and the DID's document claims the handle; the document names
// the PDS, the PDS names its authorization server, and that one does not deny it; the callback
// comes from the server that the login began at; and the account that the server says it lets in
// is, looked up anew, one that it speaks for. [Discovery] is the part that finds the servers of an
// account. It can be used alone.
//
// Requests go to public addresses only, follow no redirects, and are bounded in time and size. A
// token goes to the PDS of its account, and nowhere else.
//
// # How sessions go on
//
// An access token is good for some minutes. It is renewed before it expires, and when a PDS refuses
// it. A refresh token is good once: whoever uses one twice loses the session. So a renewal is done
// by one process at a time (see [Locker]), which reads the session anew when it has the lock, and
// stores the new tokens before it gives it back. It goes on when the request is cancelled that
// needed it. If the network fails and it is not known whether the server has renewed the session,
// the old tokens are kept, and the next attempt shows: either the server renews it (again), or the
// session has ended, and [Config.OnEnd] is told. Servers made with package provider give the same
// answer for a minute, so that a lost answer costs nothing there.
//
// An error tells what to do: with [ErrSessionEnded] the account has to log in again; with
// [ErrTemporary] the same call may succeed later.
//
// A session ends when it is revoked, or when it is found to have ended. Those that nobody uses any
// more stay in the store: now and then, go over [Client.Sessions] and revoke those whose [Info]
// says that they were not renewed for long.
//
// # What is stored
//
// [SessionStore] and [StateStore] are small interfaces: [Memory] is for tests and small programs,
// [Stored] for any storage.KV, [Files] for command-line programs; package clienttest tests others,
// such as one in SQL. What is stored are secrets: [Config.Seal] encrypts them.
//
// Specifications: OAuth page of atproto.com; RFC 6749, 7523, 7636, 8252, 8414, 9126, 9207, 9449,
// 9728.
package client
