package appview

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Methods that the host adds something to.
const (
	getPreferences, putPreferences = api.ActorGetPreferencesNSID, api.ActorPutPreferencesNSID
	getFeed                        = "app.bsky.feed.getFeed"
	registerPush, unregisterPush   = "app.bsky.notification.registerPush", "app.bsky.notification.unregisterPush"
	createReport                   = api.ModerationCreateReportNSID
)

// Routes returns the methods listed in the package comment. Without the URL of an AppView they are
// only those for preferences and reports.
func (s *Service) Routes() []xrpc.Route {
	user, evenTakenDown := s.sessions.User(session.RefuseTakenDown), s.sessions.User(session.AcceptTakenDown)
	ref := s.cfg.AppView.Ref()
	readPreferences := auth.Call(getPreferences, ref)
	route := func(nsid string, who xrpc.Authenticator, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Auth: who, Handler: h, Needs: append(needs, auth.Call(nsid, auth.FromInput))}
	}
	list := []xrpc.Route{
		{
			NSID: getPreferences, Handler: session.Query(s.getPreferences), Needs: []auth.Permission{readPreferences},
			Auth: s.sessions.UserOrModerator(session.AcceptTakenDown, readPreferences),
		},
		{
			NSID: putPreferences, Handler: session.Procedure(s.putPreferences), Needs: []auth.Permission{auth.Call(putPreferences, ref)},
			Auth: user, PlainJSON: true,
		},
		// Whoever was taken down may appeal.
		route(createReport, evenTakenDown, s.relay(s.reportService)),
	}
	if s.cfg.AppView.URL == "" {
		return list
	}
	return append(list,
		route(getFeed, user, xrpc.RawQuery(s.getFeed), auth.Call(getFeedSkeleton, auth.FromInput)),
		route(registerPush, user, s.relay(s.pushService)),
		route(unregisterPush, user, s.relay(s.pushService)),
	)
}

// getFeedSkeleton is the method by which the AppView asks a feed's generator.
const getFeedSkeleton = "app.bsky.feed.getFeedSkeleton"

// divert reports whether a request for preferences is for another service than the AppView, whose
// preferences are kept here.
func (s *Service) divert(r *xrpc.Request) bool {
	if r.NSID != getPreferences && r.NSID != putPreferences {
		return false
	}
	ref, own := r.Header.Get("Atproto-Proxy"), s.cfg.AppView
	if own.DID == "" { // whichever the AppView is
		return ref != "" && !strings.HasSuffix(ref, "#"+appViewID)
	}
	return ref != "" && ref != own.Ref()
}

// Elsewhere returns a handler that answers getRecord for repositories of other hosts from the
// AppView: see atproto.Service. It returns nil if there is no AppView.
func (s *Service) Elsewhere() func(http.ResponseWriter, *xrpc.Request) error {
	if s.cfg.AppView.URL == "" {
		return nil
	}
	return func(w http.ResponseWriter, r *xrpc.Request) error {
		return s.proxy.Forward(w, r, proxy.Call{To: s.cfg.AppView})
	}
}

// relay makes a handler of a procedure that checks its JSON body and passes it on to
// the service that to names.
func (s *Service) relay(to func(r *xrpc.Request, body any) (proxy.Service, error)) xrpc.Handler {
	return xrpc.RawProcedure(func(w http.ResponseWriter, r *xrpc.Request) error {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body, err := data.PlainJSON(text)
		if err != nil {
			return xrpc.InvalidRequest("Invalid request body: %v", err)
		}
		if err := s.cfg.Schemas.ValidateInput(r.NSID, body); err != nil && !errors.Is(err, lexicon.ErrUnknownSchema) {
			return xrpc.InvalidRequest("%v", err)
		}
		service, err := to(r, body)
		if err != nil {
			return err
		}
		if err := r.Demand(auth.Call(string(r.NSID), service.Ref())); err != nil {
			return err
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		r.Header.Del("Content-Encoding")
		r.Header.Set("Content-Type", "application/json")
		return s.proxy.Forward(w, r, proxy.Call{To: service, As: r.Principal.DID})
	})
}

// reportService is that of the header, or the configured one.
func (s *Service) reportService(r *xrpc.Request, _ any) (proxy.Service, error) {
	return s.proxy.Target(r)
}

// pushService is the service that sends notifications to a device: the body names it.
func (s *Service) pushService(_ *xrpc.Request, body any) (to proxy.Service, err error) {
	fields, _ := body.(map[string]any)
	name, _ := fields["serviceDid"].(string)
	did, err := syntax.ParseDID(name)
	if err != nil {
		return to, xrpc.InvalidRequest("serviceDid must be a DID")
	}
	if view := s.cfg.AppView; view.DID == did {
		return view, nil
	}
	return proxy.Service{DID: did, ID: "bsky_notif"}, nil
}

type getFeedParams struct {
	Feed string `json:"feed"`
}

// getFeed passes on a request for a custom feed with a token for the feed's generator, since the
// AppView asks that one in the name of the caller.
func (s *Service) getFeed(w http.ResponseWriter, r *xrpc.Request, p getFeedParams) error {
	uri, err := syntax.ParseATURI(p.Feed)
	if err != nil {
		return xrpc.InvalidRequest("feed must be an at-uri")
	}
	to, err := s.proxy.Target(r)
	if err != nil {
		return err
	}
	// Apps name the AppView in both, as the official server wants it, and as permission sets do
	// that inherit an audience: they cannot know the generators of all feeds.
	if err := r.Demand(auth.Call(string(r.NSID), to.Ref()), auth.Call(getFeedSkeleton, to.Ref())); err != nil {
		return err
	}
	generator, err := s.generator(r.Context(), string(uri))
	if err != nil {
		return err
	}
	return s.proxy.Forward(w, r, proxy.Call{To: to, As: r.Principal.DID, Audience: string(generator), Method: getFeedSkeleton})
}

// generator asks the AppView for the service of a custom feed.
func (s *Service) generator(ctx context.Context, uri string) (syntax.DID, error) {
	unknown := &xrpc.Error{Status: http.StatusBadRequest, Name: "UnknownFeed", Message: "could not resolve feed did"}
	parts := strings.Split(strings.TrimPrefix(uri, "at://"), "/")
	if len(parts) != 3 {
		return "", unknown
	}
	var record struct {
		Value struct {
			DID syntax.DID `json:"did"`
		} `json:"value"`
	}
	c := &xrpc.Client{Host: s.cfg.AppView.URL, HTTP: s.http, Retries: -1}
	err := c.Query(ctx, "com.atproto.repo.getRecord", url.Values{"repo": {parts[0]}, "collection": {parts[1]}, "rkey": {parts[2]}}, &record)
	var xerr *xrpc.Error
	if errors.As(err, &xerr) && xerr.Status < 500 {
		return "", unknown
	} else if err != nil {
		return "", &xrpc.Error{Status: http.StatusBadGateway, Message: "The AppView could not be asked for the feed"}
	}
	if _, err := syntax.ParseDID(string(record.Value.DID)); err != nil {
		return "", unknown
	}
	return record.Value.DID, nil
}
