// Package xrpc serves XRPC methods over net/http (XRPC specification).
//
// A Server is an http.Handler for the paths under /xrpc/. Methods are typed
// functions, made into handlers by Query, Procedure and their relatives:
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
// What every method needs is done once, here: method and media type are checked,
// bodies bounded, parameters and inputs validated against their schemas (where
// the server has a Catalog), credentials verified by the route's Authenticator,
// errors answered in the standard envelope {"error", "message"}, panics turned
// into status 500 with the request's id, and cross-origin requests allowed.
//
// Names in JSON are exact, in a Server and a Client alike: a member goes to the field whose json
// tag is its name, never to one that has it in another case, and an object that has a name twice is
// refused. Bodies may be encoded with gzip and deflate, and with what Server.Decoders has besides.
//
// A Client calls methods. It tries queries again where that may help, and
// procedures never. An error that it returns is an *Error, as a server's is.
package xrpc
