package auth_test

import (
	"fmt"

	"github.com/pdskit/pdskit/xrpc/auth"
)

func Example() {
	granted, ignored := auth.ParseScopes("atproto repo:com.example.note?action=create rpc:com.example.search?aud=did:web:api.example.com#index future:x")
	p := auth.Principal{Role: auth.User, Credential: auth.OAuthSession, DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Permissions: granted}

	fmt.Println(p.Demand(auth.Write(auth.Create, "com.example.note")))
	fmt.Println(p.Demand(auth.Write(auth.Delete, "com.example.note")))
	fmt.Println(p.Demand(auth.Call("com.example.search", "did:web:api.example.com#index")))
	fmt.Println("granted:", granted)
	fmt.Println("ignored:", ignored)
	// Output:
	// <nil>
	// Missing required scope "repo:com.example.note?action=delete"
	// <nil>
	// granted: atproto repo:com.example.note?action=create rpc:com.example.search?aud=did:web:api.example.com%23index
	// ignored: [future:x]
}
