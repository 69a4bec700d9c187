// Package passkey registers and verifies passkeys (Web Authentication, WebAuthn Level 3): a passkey
// on a phone, a computer or a security key stands for an account's password and a second factor
// together. Package credential keeps them. This package makes the challenges and verifies what
// authenticators sign; nothing else links what that needs.
//
//	passkeys := passkey.New(passkey.Config{Credentials: credentials, URL: "https://pds.example.com"})
//
//	// Somebody who is signed in, and has just proved it, adds one:
//	options, err := passkeys.BeginRegistration(ctx, who, device)  // for navigator.credentials.create
//	added, err := passkeys.FinishRegistration(ctx, who, device, "my phone", response)
//
//	// Anybody signs in:
//	options, err := passkeys.BeginLogin(ctx, device)              // for navigator.credentials.get
//	proof, err := passkeys.FinishLogin(ctx, device, response)     // whose account it is says the passkey
//	a, session, err := credentials.StartSession(ctx, proof, false)
//
// # Rules
//
// The address of the server is what passkeys are bound to: under another host name, none of them is
// good any more. Only its own origin is taken, and no frame in a page of another. The authenticator
// must have verified its user, by a fingerprint or a PIN. It knows the account by a random name
// ([account.Store.UserHandle]), not by its DID.
//
// A challenge is good for five minutes, for once, for one purpose, and for whoever it was given to:
// binding names the device and what is being done there, such as a cookie together with the name of
// a request. Several may be open at once. Challenges lie in storage.KV, so every process of a host
// takes those of the others.
//
// A counter of signatures that goes back is noted: see [credential.Store.UsePasskey].
//
// # Without passkeys
//
// The verifier is large: a program that is built with -tags nopasskeys, or nopages, leaves it out.
// Then no server can have passkeys: see [Possible].
package passkey
