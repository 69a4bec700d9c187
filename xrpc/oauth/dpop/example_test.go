package dpop_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// A client makes a proof, is asked for a nonce, and makes another one.
func Example() {
	ctx := context.Background()
	server := &dpop.Verifier{
		Nonces:  dpop.NewNonces([]byte("sixteen random bytes, or more"), nil),
		Replays: &dpop.Memory{},
	}
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		panic(err)
	}
	request := dpop.Target{Method: "GET", URL: "https://pds.example.com/xrpc/com.example.get", Token: "the access token"}

	text, err := dpop.Sign(ctx, key, request, "", time.Now())
	if err != nil {
		panic(err)
	}
	_, err = server.Verify(ctx, text, request)
	fmt.Println(errors.Is(err, dpop.ErrNonce))

	text, err = dpop.Sign(ctx, key, request, server.Nonce(), time.Now())
	if err != nil {
		panic(err)
	}
	proof, err := server.Verify(ctx, text, request)
	fmt.Println(err, proof.Thumbprint == dpop.Thumbprint(key.PublicKey()))

	_, err = server.Verify(ctx, text, request)
	fmt.Println(err)
	// Output:
	// true
	// <nil> true
	// dpop: invalid proof: it was used before
}
