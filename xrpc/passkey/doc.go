// Package passkey registers and verifies passkeys (Web Authentication, WebAuthn Level 3). A passkey
// on a phone, a computer or a security key replaces an account's password and a second factor
// together. Package credential stores passkeys. This package makes challenges and verifies the
// signatures of authenticators; no other package needs the libraries for that.
//
//	passkeys := passkey.New(passkey.Config{Credentials: credentials, URL: "https://pds.example.com"})
//
//	// An owner who has just signed in adds one:
//	options, err := passkeys.BeginRegistration(ctx, who, device)  // for navigator.credentials.create
//	added, err := passkeys.FinishRegistration(ctx, who, device, "my phone", response)
//
//	// Anybody signs in:
//	options, err := passkeys.BeginLogin(ctx, device)              // for navigator.credentials.get
//	proof, err := passkeys.FinishLogin(ctx, device, response)     // the passkey names the account
//	a, session, err := credentials.StartSession(ctx, proof, false)
//
// # Rules
//
// Passkeys are bound to the server's host name: under another one, none of them works. Only the
// server's own origin is accepted, and no frames in pages of other origins. The authenticator must
// have verified its user, by a fingerprint or a PIN. It knows the account by a random name
// ([account.Store.UserHandle]), not by its DID.
//
// A challenge is valid for five minutes, for one use, for one purpose, and for one binding. The
// binding identifies the device and the process, such as a cookie together with the name of a
// request. Several challenges may be open at once. They are stored in storage.KV, so every process
// of a host accepts those of the others.
//
// A signature counter that goes back is recorded: see [credential.Store.UsePasskey].
//
// # Without passkeys
//
// The verifier is large. A program built with -tags nopasskeys, or nopages, omits it. Then no
// server can have passkeys: see [Possible].
package passkey
