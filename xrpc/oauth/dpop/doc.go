// Package dpop makes and verifies DPoP proofs (RFC 9449): small signed tokens by which a client
// shows with each request that it has the key that its access token is bound to. A stolen token is
// of no use without the key.
//
// A server verifies the proofs of its requests:
//
//	verifier := &dpop.Verifier{
//		Nonces:  dpop.NewNonces(secret, nil),
//		Replays: &dpop.Memory{},
//	}
//	text, err := dpop.Header(r.Header)
//	…
//	proof, err := verifier.Verify(ctx, text, dpop.Target{Method: r.Method, URL: publicURL + r.URL.Path, Token: token})
//	…
//	if proof.Thumbprint != boundTo { … }
//
// The URL is the one that clients know the server by. It must not come from headers that a client
// can choose, such as X-Forwarded-Host.
//
// A client makes a proof for each request:
//
//	text, err := dpop.Sign(ctx, key, dpop.Target{Method: "POST", URL: url, Token: token}, nonce, time.Now())
//
// # Nonces
//
// A nonce is a value that the server hands out with its answers and that proofs must repeat. It
// says when a proof was made at the earliest, by the server's clock. [Nonces] keeps nothing: a
// nonce is a time with a MAC over it, so all nodes that share a secret accept each other's nonces,
// also after a restart.
//
// # Replays
//
// A proof is good for one request. [Verifier.Replays] remembers those that were used:
//
//   - [Memory] is for one process. What it does not know, since it was used before the process
//     started, or since it had to be forgotten, has an older nonce than the Memory accepts: the
//     client is asked to repeat the request with a new nonce, which clients do by themselves.
//   - [Stored] lies in a [storage.KV]. It is shared by all nodes and survives restarts, for the
//     price of one write for each proof.
//
// Keys are of the curves P-256 and secp256k1 (ES256 and ES256K), as package crypto has them.
package dpop
