// Package client lets users of the AT Protocol log in to an app by OAuth, and calls their PDSes on
// their behalf. It is for services and command-line programs.
//
// An app is a [Client]. Servers know it by the URL of its metadata:
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
// The user types a handle, and the browser goes to the server of the account:
//
//	err := app.StartHTTP(w, r, client.Login{Account: r.FormValue("handle")})
//
// The browser comes back to the redirect URI, and a session begins:
//
//	session, _, err := app.FinishHTTP(w, r)
//	…
//	api.RepoCreateRecord(ctx, session.Client(), …)
//
// Later, any process can use the session by its ID:
//
//	session, err := app.Resume(ctx, id)
//
// A program on a user's own machine has no metadata on the web: see [Loopback] and
// [Client.LoginLocal].
//
// # What is checked
//
// Anybody may run a PDS, and a PDS may claim anything. So a login succeeds only if all sides agree.
// The handle points to the DID, and the DID's document claims the handle. The document names the
// PDS, the PDS names its authorization server, and that server does not deny it. The callback comes
// from the server at which the login began. The account that the server returns is resolved again,
// and must be one that the server is responsible for. [Discovery] finds the servers of an account;
// it can be used alone.
//
// Requests go to public addresses only, follow no redirects, and are bounded in time and size. A
// token is sent only to the PDS of its account.
//
// # How sessions are renewed
//
// An access token is valid for some minutes. It is renewed before it expires, and when a PDS
// refuses it. A refresh token can be used once; a second use ends the session. So only one process
// at a time renews a session (see [Locker]). It reads the session again when it has the lock, and
// stores the new tokens before it releases the lock. The renewal continues if the request that
// needed it is cancelled.
//
// If the network fails, it may be unknown whether the server has renewed the session. Then the old
// tokens are kept, and the next attempt finds out: either the server renews the session, or the
// session has ended and [Config].OnEnd is called. Servers made with package provider return the
// same tokens again for a minute, so a lost response does no harm there.
//
// Errors say what to do: after [ErrSessionEnded] the user has to log in again; after [ErrTemporary]
// the same call may succeed later.
//
// A session ends when it is revoked, or when it is found to have ended. Sessions that nobody uses
// stay in the store. So from time to time go through [Client.Sessions], and revoke those whose
// [Info] says that they were not renewed for long.
//
// # What is stored
//
// [SessionStore] and [StateStore] are small interfaces. [Memory] is for tests and small programs,
// [Stored] for any storage.KV, [Files] for command-line programs. Package clienttest tests other
// implementations, such as one in SQL. Stored values are secrets: [Config].Seal encrypts them.
//
// Specifications: OAuth page of atproto.com; RFC 6749, 7523, 7636, 8252, 8414, 9126, 9207, 9449,
// 9728.
package client
