package xrpc

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Handle registers methods. It panics if a method with the same name exists (see Replace), if a
// name is not an NSID, if a handler is missing, if a route needs permissions but has no
// Authenticator, or if the server has already served a request.
func (s *Server) Handle(routes ...Route) {
	for _, rt := range routes {
		if s.routes[rt.NSID] != nil {
			panic("xrpc: two routes for " + rt.NSID + "; use Server.Replace to put one in the place of another")
		}
		s.set(rt)
	}
}

// Routes returns the registered methods in the order of their names.
func (s *Server) Routes() []Route {
	list := make([]Route, 0, len(s.routes))
	for _, name := range slices.Sorted(maps.Keys(s.routes)) {
		list = append(list, *s.routes[name])
	}
	return list
}

// Replace replaces the routes of the same names completely: the new ones need their own Auth and
// Needs; without Auth, anybody may call them. To change a part of a route, use With. It panics if a
// name is not registered, and where Handle panics.
func (s *Server) Replace(routes ...Route) {
	for _, rt := range routes {
		s.registered(rt.NSID)
		s.set(rt)
	}
}

// With changes a registered route, for example to wrap its handler (see Handler.Wrap) or to demand
// more permissions. It panics if there is no such route, if change returns another name, and where
// Handle panics.
func (s *Server) With(nsid string, change func(Route) Route) {
	rt := *s.registered(nsid)
	rt.Needs = slices.Clone(rt.Needs)
	if rt = change(rt); rt.NSID != nsid {
		panic(fmt.Sprintf("xrpc: Server.With(%q) has made a route for %q; it must keep the name", nsid, rt.NSID))
	}
	s.set(rt)
}

func (s *Server) registered(nsid string) *Route {
	rt := s.routes[nsid]
	if rt == nil {
		panic(fmt.Sprintf("xrpc: there is no route for %q to replace or change; register it with Server.Handle", nsid))
	}
	return rt
}

// set registers a route.
func (s *Server) set(rt Route) {
	if s.serving.Load() {
		panic("xrpc: the route for " + rt.NSID + " comes after the first request: register, replace and change routes before the server serves")
	}
	if _, err := syntax.ParseNSID(rt.NSID); err != nil {
		panic(fmt.Sprintf("xrpc: Route.NSID must be the NSID of a method: %v", err))
	}
	rt.check()
	if s.routes == nil {
		s.routes = make(map[string]*Route)
	}
	s.routes[rt.NSID] = &rt
}

// check panics if a route, which may be a fallback, cannot serve anybody.
func (rt *Route) check() {
	switch {
	case rt.Handler.serve == nil:
		panic("xrpc: the route for " + rt.NSID + " has no Handler")
	case rt.Auth == nil && len(rt.Needs) > 0:
		panic("xrpc: the route for " + rt.NSID + " has Needs but no Auth, so nobody could call it")
	case slices.Contains(rt.Needs, auth.Permission{}):
		panic("xrpc: the route for " + rt.NSID + " needs the zero Permission; use the functions of package auth")
	}
}
