// Package dpop makes and verifies DPoP proofs (RFC 9449): small signed tokens with which a client
// proves for each request that it has the key to which its access token is bound. A stolen token is
// useless without the key.
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
// The URL is the server's public URL. It must not come from headers that a client can choose, such
// as X-Forwarded-Host.
//
// A client makes a proof for each request:
//
//	text, err := dpop.Sign(ctx, key, dpop.Target{Method: "POST", URL: url, Token: token}, nonce, time.Now())
//
// # Nonces
//
// A nonce is a value that the server sends with its responses, and that proofs must contain. It
// bounds the age of a proof by the server's clock. [Nonces] stores nothing: a nonce is a time with
// a MAC. So all nodes that share a secret accept each other's nonces, also after a restart.
//
// # Replays
//
// A proof is valid for one request. [Verifier].Replays remembers the used ones:
//
//   - [Memory] is for one process. It does not know proofs that were used before the process
//     started, or that it had to forget. But those have nonces that are older than the Memory
//     accepts: the client is asked to repeat the request with a new nonce, which clients do
//     automatically.
//   - [Stored] uses a [storage.KV]. All nodes share it, and it survives restarts, at the cost of
//     one write for each proof.
//
// Keys are of the curves P-256 and secp256k1 (ES256 and ES256K), as in package crypto.
package dpop
