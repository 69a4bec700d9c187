package pds

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// openProxy passes on the methods that the server does not have: to the service
// that the client names, else to the AppView, or for moderation to its services. What the
// caller has just written is put into the AppView's answers.
func (s *Server) openProxy() {
	p := &proxy.Proxy{
		HTTP:          s.cfg.HTTP,
		Resolver:      s.cfg.Resolver,
		Signer:        s.Accounts.Signer,
		Auth:          s.Sessions.User(session.RefuseTakenDown),
		Now:           s.cfg.Now,
		Default:       s.defaultService,
		HeaderTimeout: s.cfg.AppView.HeaderTimeout,
		BodyTimeout:   s.cfg.AppView.BodyTimeout,
		Development:   s.cfg.Development,
	}
	for _, method := range []syntax.NSID{"app.bsky.feed.getTimeline", "tools.ozone.moderation.emitEvent", "com.atproto.moderation.createReport"} {
		if known, ok := s.defaultService(method); ok {
			p.Known = append(p.Known, known)
		}
	}
	s.Proxy = p
	if s.cfg.Proxy != nil {
		defer s.cfg.Proxy(p)
	}
	if s.cfg.AppView.URL == "" {
		return
	}
	s.appViewHTTP = s.cfg.HTTP
	if s.appViewHTTP == nil {
		s.appViewHTTP = newAppViewHTTP()
	}
	merger := &readafter.Merger{
		Repos:   s.Host,
		Handle:  s.handleOf,
		AppView: appView{s},
		Now:     s.cfg.Now,
		Images:  readafter.Images{CDN: s.cfg.AppView.CDN, Host: s.cfg.URL},
		MaxBody: s.cfg.AppView.MaxResponse,
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
}

// defaultService is the service for a method where the client names none.
func (s *Server) defaultService(method syntax.NSID) (proxy.Service, bool) {
	to, id := s.cfg.AppView.Service, "bsky_appview"
	switch m := string(method); {
	case strings.HasPrefix(m, "tools.ozone."):
		to, id = s.cfg.Moderation, "atproto_labeler"
	case m == "com.atproto.moderation.createReport":
		to, id = s.cfg.Reports, "atproto_labeler"
	}
	return proxy.Service{DID: to.DID, ID: id, URL: to.URL}, to != Service{}
}

// handleOf is the handle of an account here.
func (s *Server) handleOf(ctx context.Context, did syntax.DID) (syntax.Handle, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	return a.Handle, err
}

// appView answers queries of the AppView in the name of an account.
type appView struct{ *Server }

func (v appView) Query(ctx context.Context, did syntax.DID, method string, params url.Values, out any) error {
	signer, err := v.Accounts.Signer(ctx, did)
	if err != nil {
		return err
	}
	token, err := serviceauth.Sign(ctx, signer, serviceauth.Token{Issuer: string(did), Audience: string(v.cfg.AppView.DID), Method: method, Issued: v.cfg.Now()})
	if err != nil {
		return err
	}
	c := &xrpc.Client{Host: v.cfg.AppView.URL, HTTP: v.appViewHTTP, Authorize: xrpc.Bearer(token), Retries: -1}
	return c.Query(ctx, method, params, out)
}

// newAppViewHTTP is the client for the AppView, whose address the operator has given.
func newAppViewHTTP() *http.Client {
	return safehttp.NewClient(safehttp.Config{AllowPrivate: true, AllowHTTP: true})
}
