package pds

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
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Methods that are passed on, but to which this server has something to add.

// forwarded are these methods. Without an AppView, they are like any other that is unknown here.
func (s *Server) forwarded() []xrpc.Route {
	const createReport, getFeed = "com.atproto.moderation.createReport", "app.bsky.feed.getFeed"
	const registerPush, unregisterPush = "app.bsky.notification.registerPush", "app.bsky.notification.unregisterPush"
	route := func(nsid string, down session.TakenDown, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Auth: s.Sessions.User(down), Handler: h, Needs: append(needs, auth.Call(nsid, auth.FromInput))}
	}
	// Whoever was taken down may appeal.
	list := []xrpc.Route{route(createReport, session.AcceptTakenDown, s.relay(s.reportService))}
	if s.cfg.AppView.URL == "" {
		return list
	}
	return append(list,
		route(getFeed, session.RefuseTakenDown, xrpc.RawQuery(s.getFeed), auth.Call(getFeedSkeleton, auth.FromInput)),
		route(registerPush, session.RefuseTakenDown, s.relay(s.pushService)),
		route(unregisterPush, session.RefuseTakenDown, s.relay(s.pushService)),
	)
}

// getFeedSkeleton is the method by which the AppView asks a feed's generator.
const getFeedSkeleton = "app.bsky.feed.getFeedSkeleton"

// divert reports whether a request for preferences is for another service than the AppView, whose
// preferences are kept here.
func (s *Server) divert(r *xrpc.Request) bool {
	if r.NSID != "app.bsky.actor.getPreferences" && r.NSID != "app.bsky.actor.putPreferences" {
		return false
	}
	const id = "#bsky_appview"
	ref, own := r.Header.Get("Atproto-Proxy"), s.cfg.AppView.DID
	return ref != "" && ref != string(own)+id && (own != "" || !strings.HasSuffix(ref, id))
}

// recordElsewhere asks the AppView for a record of a repository that is not here.
func (s *Server) recordElsewhere(w http.ResponseWriter, r *xrpc.Request) error {
	to, _ := s.defaultService("app.bsky.feed.getTimeline")
	return s.Proxy.Forward(w, r, proxy.Call{To: to})
}

// relay makes a handler of a procedure that checks its JSON body and passes it on to
// the service that to names.
func (s *Server) relay(to func(r *xrpc.Request, body any) (proxy.Service, error)) xrpc.Handler {
	return xrpc.RawProcedure(func(w http.ResponseWriter, r *xrpc.Request) error {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body, err := data.PlainJSON(text)
		if err != nil {
			return xrpc.InvalidRequest("Invalid request body: %v", err)
		}
		if err := s.cfg.Catalog.ValidateInput(r.NSID, body); err != nil && !errors.Is(err, lexicon.ErrUnknownSchema) {
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
		return s.Proxy.Forward(w, r, proxy.Call{To: service, As: session.Caller(r)})
	})
}

// reportService is that of the header, or the configured one.
func (s *Server) reportService(r *xrpc.Request, _ any) (proxy.Service, error) {
	return s.Proxy.Target(r)
}

// pushService is the service that sends notifications to a device: the body names it.
func (s *Server) pushService(_ *xrpc.Request, body any) (to proxy.Service, err error) {
	fields, _ := body.(map[string]any)
	name, _ := fields["serviceDid"].(string)
	did, err := syntax.ParseDID(name)
	if err != nil {
		return to, xrpc.InvalidRequest("serviceDid must be a DID")
	}
	if view, _ := s.defaultService("app.bsky.notification.registerPush"); view.DID == did {
		return view, nil
	}
	return proxy.Service{DID: did, ID: "bsky_notif"}, nil
}

type getFeedParams struct {
	Feed string `json:"feed"`
}

// getFeed passes on a request for a custom feed with a token for the feed's generator, since the
// AppView asks that one in the name of the caller.
func (s *Server) getFeed(w http.ResponseWriter, r *xrpc.Request, p getFeedParams) error {
	uri, err := syntax.ParseATURI(p.Feed)
	if err != nil {
		return xrpc.InvalidRequest("feed must be an at-uri")
	}
	to, err := s.Proxy.Target(r)
	if err != nil {
		return err
	}
	generator, err := s.generator(r.Context(), string(uri))
	if err != nil {
		return err
	}
	// Checked once the generator is known, as its name stands in the second of them.
	if err := r.Demand(auth.Call(string(r.NSID), to.Ref()), auth.Call(getFeedSkeleton, string(generator)+"#bsky_fg")); err != nil {
		return err
	}
	return s.Proxy.Forward(w, r, proxy.Call{To: to, As: session.Caller(r), Audience: string(generator), Method: getFeedSkeleton})
}

// generator asks the AppView for the service of a custom feed.
func (s *Server) generator(ctx context.Context, uri string) (syntax.DID, error) {
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
	c := &xrpc.Client{Host: s.cfg.AppView.URL, HTTP: s.appViewHTTP, Retries: -1}
	err := c.Query(ctx, "com.atproto.repo.getRecord", url.Values{"repo": {parts[0]}, "collection": {parts[1]}, "rkey": {parts[2]}}, &record)
	var told *xrpc.Error
	if errors.As(err, &told) && told.Status < 500 {
		return "", unknown
	} else if err != nil {
		return "", &xrpc.Error{Status: http.StatusBadGateway, Message: "The AppView could not be asked for the feed"}
	}
	if _, err := syntax.ParseDID(string(record.Value.DID)); err != nil {
		return "", unknown
	}
	return record.Value.DID, nil
}

// refuseImport stands in for importRepo where imports are turned off.
func refuseImport(w http.ResponseWriter, r *xrpc.Request) error {
	return xrpc.InvalidRequest("Service is not accepting repo imports")
}
