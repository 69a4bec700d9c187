// Package api has the methods of com.atproto as Go types: their parameters, inputs and outputs, the
// names of their errors, and functions that call them. Lexgen generates it from the schemas of
// package lexicon; see package lexicon/gen for the rules of names and types.
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
// Of app.bsky it has the two methods for preferences, which a PDS serves itself. Preferences stay
// JSON.
//
// The package imports neither net/http nor package xrpc, so the types can be used without a
// network.
package api

//go:generate go run ../../../lexicon/gen/lexgen -package api -trim com.atproto,app.bsky -raw app.bsky.actor.defs#preferences com.atproto.* app.bsky.actor.getPreferences app.bsky.actor.putPreferences
