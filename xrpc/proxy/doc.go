// Package proxy forwards requests of a host's accounts to other services of the
// network (XRPC specification, Service Proxying).
//
// A client names the service in the header Atproto-Proxy, as
// "did:web:api.example.com#bsky_appview"; without it, the method decides. The service's
// address comes from its DID document. It is told whose request it is by a
// service token, signed with the account's own key (package serviceauth); the client's credentials,
// cookies and address stay here. Only headers that are known to be harmless pass in
// either direction, bodies are streamed in both, and answers are passed on with
// headers that keep a browser from running them in the host's origin.
//
// The addresses come from strangers, so connections go to public addresses only.
// Redirects are not followed.
//
// Mount the Proxy as the fallback of a server:
//
//	srv.Fallback = p.Route()
package proxy
