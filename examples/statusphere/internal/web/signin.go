package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// loginTimeout bounds the time to find out where somebody signs in.
const loginTimeout = 20 * time.Second

// signIn begins a login. The browser goes on to the account's own server, by a page of ours: the
// content security policy forbids a form to lead elsewhere, also by a redirect.
func (s *Server) signIn(c *call) error {
	leave, err := s.logins.Enter(c.ctx(), limit.From(c.r))
	if err != nil {
		return &refusal{http.StatusServiceUnavailable, "Too many people sign in at this moment. Try again."}
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.ctx(), loginTimeout)
	defer cancel()
	account := strings.TrimSpace(c.form.Get("account"))
	to, err := s.cfg.OAuth.Start(ctx, client.Login{
		Account: account, Browser: c.visitor.Browser, RedirectURI: s.cfg.URL + CallbackPath, Locales: []string{"en"},
	})
	if err != nil {
		s.cfg.Log.Info("a login could not begin", "account", account, "error", err)
		return explain(account, err)
	}
	return s.render(c, http.StatusOK, "leave", leaveView{URL: to.String(), Host: to.Host})
}

// explain says why a login could not begin.
func explain(account string, err error) *refusal {
	var answered *client.Error
	switch {
	case account == "" || errors.Is(err, client.ErrInput):
		return &refusal{http.StatusUnprocessableEntity, "Type your handle, such as alice.example.com."}
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrTombstoned):
		return &refusal{http.StatusUnprocessableEntity, "There is no account with that handle. Is it spelled right?"}
	case errors.Is(err, client.ErrMismatch), errors.Is(err, identity.ErrMismatch):
		return &refusal{http.StatusUnprocessableEntity, "That handle does not belong to the account that it points at."}
	case errors.As(err, &answered) && !errors.Is(err, client.ErrTemporary):
		return &refusal{http.StatusBadGateway, "The server of that account does not let this app in."}
	case errors.Is(err, client.ErrServer):
		return &refusal{http.StatusBadGateway, "The server of that account cannot be used to sign in here."}
	}
	return &refusal{http.StatusBadGateway, "The server of that account does not answer. Try again in a moment."}
}

// finish ends a login, when the browser comes back.
func (s *Server) finish(c *call) error {
	c.w.Header().Set("Cache-Control", "no-store")
	session, _, err := s.cfg.OAuth.Finish(c.ctx(), c.r.URL.Query(), c.visitor.Browser)
	if err != nil {
		var callback *client.CallbackError
		switch {
		case errors.As(err, &callback) && callback.Code == "access_denied":
			return s.toHome(c) // they changed their mind
		case errors.Is(err, client.ErrState):
			return &refusal{http.StatusBadRequest, "That sign-in was too long ago, or began in another browser. Please try again."}
		}
		s.cfg.Log.Info("a login failed", "error", err)
		return &refusal{http.StatusBadGateway, "Your server did not let you in. Please try again."}
	}
	if err := s.cfg.Index.Add(c.ctx(), session.DID()); err != nil {
		s.revoke(c.ctx(), session.ID()) // nobody would have it
		return err
	}
	v, old := c.visitor.with(session.ID())
	for _, id := range old {
		s.revoke(c.ctx(), id)
	}
	// The browser gets another name, so that whoever knew the one before has nothing of it.
	fresh := newVisitor(s.cfg.Now())
	v.Browser, v.Since = fresh.Browser, fresh.Since
	s.setVisitor(c.w, v)
	return s.toHome(c)
}

// signOut ends the session of an account: here and at its server.
func (s *Server) signOut(c *call) error {
	id := c.visitor.session()
	if id == "" {
		return s.toHome(c)
	}
	s.revoke(c.ctx(), id)
	v := c.visitor.without(id)
	fresh := newVisitor(s.cfg.Now())
	v.Browser, v.Since = fresh.Browser, fresh.Since
	s.setVisitor(c.w, v)
	return s.toHome(c)
}

// revoke ends a session. If its server does not answer, it ends here all the same.
func (s *Server) revoke(ctx context.Context, id client.SessionID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
	defer cancel()
	session, err := s.cfg.OAuth.Resume(ctx, id)
	if err == nil {
		err = session.Revoke(ctx)
	}
	if err != nil && !errors.Is(err, client.ErrSessionEnded) {
		s.cfg.Log.Info("a server could not be told that a session has ended", "did", id.DID(), "error", err)
	}
}

// sweepEach is the time between two looks for sessions that nobody can use any more.
const sweepEach = 6 * time.Hour

// sweep revokes sessions until the context ends.
func (s *Server) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		s.RevokeUnused(ctx)
		select {
		case <-time.After(sweepEach):
		case <-ctx.Done():
		}
	}
}

// RevokeUnused revokes the sessions that were not used for so long that no browser is likely to
// have their cookie: without that, each login of a browser that forgets its cookies would stay for
// ever. [Server.Run] does so now and then.
func (s *Server) RevokeUnused(ctx context.Context) {
	for session, err := range s.cfg.OAuth.Sessions(ctx, "") {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Log.Warn("a stored session cannot be read", "error", err)
		} else if s.cfg.Now().Sub(session.Info().Renewed) > 2*cookieLife {
			s.revoke(ctx, session.ID())
		}
	}
}

// switchTo uses another account of the browser.
func (s *Server) switchTo(c *call) error {
	i := slices.IndexFunc(c.visitor.Sessions, func(id client.SessionID) bool { return string(id.DID()) == c.form.Get("did") })
	if i < 0 {
		return &refusal{http.StatusForbidden, "That account is not signed in."}
	}
	v, _ := c.visitor.with(c.visitor.Sessions[i])
	s.setVisitor(c.w, v)
	return s.toHome(c)
}

// leaveView is the page that leads to another server.
type leaveView struct {
	URL, Host string
}
