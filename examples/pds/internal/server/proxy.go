package server

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// forwarding passes on the methods that the server does not have: to the service
// that the client names, else to the AppView, or for moderation to its services. What the
// caller has just written is put into the AppView's answers.
func (s *Server) forwarding() *proxy.Proxy {
	p := &proxy.Proxy{
		Resolver:      s.resolver,
		Signer:        s.accounts.Signer,
		Auth:          s.sessions.User(session.RefuseTakenDown),
		Now:           s.now,
		Default:       s.defaultService,
		HeaderTimeout: s.cfg.Proxy.HeadersTimeout,
		BodyTimeout:   s.cfg.Proxy.BodyTimeout,
		Development:   s.cfg.DevMode,
	}
	for _, method := range []syntax.NSID{"app.bsky.feed.getTimeline", "tools.ozone.moderation.emitEvent", "com.atproto.moderation.createReport"} {
		if known, ok := s.defaultService(method); ok {
			p.Known = append(p.Known, known)
		}
	}
	if s.cfg.Proxy.AppView.URL == "" {
		return p
	}
	merger := &readafter.Merger{
		Repos:   s.host,
		Handle:  s.handleOf,
		AppView: appView{s},
		Now:     s.now,
		Images:  readafter.Images{CDN: s.cfg.Proxy.CDN, Host: s.url},
		MaxBody: s.cfg.Proxy.MaxResponse,
	}
	edited := readafter.Methods()
	p.Request = func(r *xrpc.Request, out *http.Request) {
		if slices.Contains(edited, string(r.NSID)) {
			out.Header.Set("Accept-Encoding", readafter.Accept(r.Header.Get("Accept-Encoding")))
		}
	}
	p.Response = func(r *xrpc.Request, caller syntax.DID, res *http.Response) {
		if caller != "" && slices.Contains(edited, string(r.NSID)) {
			merger.Modify(r.Request, string(r.NSID), caller, res)
		}
	}
	return p
}

// defaultService is the service for a method where the client names none.
func (s *Server) defaultService(method syntax.NSID) (proxy.Service, bool) {
	to, id := s.cfg.Proxy.AppView, "bsky_appview"
	switch m := string(method); {
	case strings.HasPrefix(m, "tools.ozone."):
		to, id = s.cfg.Proxy.Moderation, "atproto_labeler"
	case m == "com.atproto.moderation.createReport":
		to, id = s.cfg.Proxy.Reports, "atproto_labeler"
	}
	return proxy.Service{DID: to.DID, ID: id, URL: to.URL}, to != config.Service{}
}

// handleOf is the handle of an account here.
func (s *Server) handleOf(ctx context.Context, did syntax.DID) (syntax.Handle, error) {
	a, err := s.accounts.ByDID(ctx, did)
	return a.Handle, err
}

// appView answers queries of the AppView in the name of an account.
type appView struct{ *Server }

func (v appView) Query(ctx context.Context, did syntax.DID, method string, params url.Values, out any) error {
	signer, err := v.accounts.Signer(ctx, did)
	if err != nil {
		return err
	}
	token, err := serviceauth.Sign(ctx, signer, serviceauth.Token{Issuer: string(did), Audience: string(v.cfg.Proxy.AppView.DID), Method: method, Issued: v.now()})
	if err != nil {
		return err
	}
	c := &xrpc.Client{Host: v.cfg.Proxy.AppView.URL, HTTP: v.appViewHTTP, Authorize: xrpc.Bearer(token), Retries: -1}
	return c.Query(ctx, method, params, out)
}

// newAppViewHTTP is the client for the AppView, whose address the operator has given.
func newAppViewHTTP() *http.Client {
	return safehttp.NewClient(safehttp.Config{AllowPrivate: true, AllowHTTP: true})
}
