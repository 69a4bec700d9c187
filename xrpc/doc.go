// Package xrpc serves and calls XRPC methods over net/http (XRPC specification).
//
// A [Server] is an http.Handler for the paths under /xrpc/. Methods are typed functions. [Query],
// [Procedure] and similar functions turn them into handlers:
//
//	type params struct {
//		Handle syntax.Handle `json:"handle"`
//	}
//	srv := &xrpc.Server{}
//	srv.Handle(xrpc.Route{
//		NSID:    "com.atproto.identity.resolveHandle",
//		Handler: xrpc.Query(func(ctx context.Context, r *xrpc.Request, p params) (output, error) { … }),
//	})
//
// The server does what every method needs. It checks the HTTP method and the media type, and bounds
// bodies. It validates parameters and inputs against their schemas, if it has a Catalog. It
// verifies credentials with the route's [Authenticator]. It sends errors in the standard form
// {"error", "message"}, answers panics with status 500 and the request's ID, and allows
// cross-origin requests.
//
// JSON names are exact, in a Server and in a Client: a member is decoded into the field whose json
// tag equals its name, never one in another case. An object with a duplicate name is refused.
// Bodies may be encoded with gzip and deflate, and with the codings in Server.Decoders.
//
// A [Client] calls methods. It retries queries after failures that may pass, and never retries
// procedures. An error response is returned as an *[Error].
package xrpc
