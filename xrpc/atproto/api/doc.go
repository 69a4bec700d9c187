// Package api has the methods of com.atproto as Go types: what they take and return, the names of
// their errors, and functions that call them. Lexgen makes it from the schemas of package lexicon;
// see package lexicon/gen for how names and types follow from them.
//
// A handler takes and returns these types:
//
//	func (s *Service) createSession(ctx context.Context, r *xrpc.Request, in api.ServerCreateSessionInput) (
//		out api.ServerCreateSessionOutput, err error,
//	) { … }
//
//	srv.Handle(xrpc.Route{NSID: api.ServerCreateSessionNSID, Handler: xrpc.Procedure(s.createSession)})
//
// A program that calls a server has one function for each method:
//
//	client := &xrpc.Client{Host: "https://pds.example.com"}
//	out, err := api.ServerCreateSession(ctx, client, api.ServerCreateSessionInput{Identifier: "alice.example.com", Password: password})
//	if errors.Is(err, &xrpc.Error{Name: api.ErrorAuthFactorTokenRequired}) { … }
//
// Of app.bsky there are the two methods for preferences, which a PDS serves itself. Preferences stay
// the JSON that they are.
//
// The package imports neither net/http nor package xrpc, so that types can be used where there is no
// network.
package api

//go:generate go run ../../../lexicon/gen/lexgen -package api -trim com.atproto,app.bsky -raw app.bsky.actor.defs#preferences com.atproto.* app.bsky.actor.getPreferences app.bsky.actor.putPreferences
