// Package proxy forwards requests of a host's accounts to other services of the network (XRPC
// specification, Service Proxying).
//
// A client names the service in the header Atproto-Proxy, for example
// "did:web:api.example.com#bsky_appview". Without it, the method determines the service. The
// service's URL is in its DID document. The service learns whose request it is from a service
// token, signed with the account's own key (package serviceauth). The client's credentials, cookies
// and address are not forwarded. Only harmless headers pass in either direction. Bodies are
// streamed. Responses get headers that keep a browser from running them in the host's origin.
//
// The URLs are untrusted, so connections go to public addresses only, and redirects are not
// followed.
//
// Mount the Proxy as the fallback of a server:
//
//	srv.Fallback = p.Route()
package proxy
