package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// Session is a session of the client with an account. It renews its access token when necessary. It
// is safe for concurrent use. There may be several Sessions for one SessionID, in this process and
// in others.
type Session struct {
	c     *Client
	id    SessionID
	last  atomic.Pointer[held]
	ended atomic.Pointer[EndedError]
	wait  atomic.Int64 // until when it is not tried to renew a token that is good yet: Unix, in nanoseconds
}

func (c *Client) session(id SessionID, h *held) *Session {
	s := &Session{c: c, id: id}
	s.last.Store(h)
	return s
}

// Info describes a session.
type Info struct {
	ID  SessionID
	DID syntax.DID
	// Handle is the account's handle at the beginning of the session, to show to users. It is empty
	// if there was no valid one.
	Handle syntax.Handle
	// PDS is the origin of the account's PDS, and Issuer the authorization server.
	PDS, Issuer string
	// Scope is the granted scope, which may be less than the requested one.
	Scope string
	// Created is when the session began. Renewed is when it got its access token, which is valid
	// until Expires (zero: unknown).
	Created, Renewed, Expires time.Time
	// Uncertain is set if the last attempt to renew the session had no response, according to the
	// store. The session may have ended.
	Uncertain bool
}

// Resume returns a stored session. It makes no requests. If there is no such session, the error is
// ErrSessionEnded. Other errors are ErrTemporary and those of Config.Seal.
func (c *Client) Resume(ctx context.Context, id SessionID) (*Session, error) {
	h, err := c.load(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.session(id, h), nil
}

// Sessions yields the sessions of an account, or of all accounts if did is empty. For a session
// that cannot be read it yields an error, and continues with the others.
func (c *Client) Sessions(ctx context.Context, did syntax.DID) iter.Seq2[*Session, error] {
	return func(yield func(*Session, error) bool) {
		for id, err := range c.cfg.Sessions.List(ctx, did) {
			if err != nil {
				yield(nil, fmt.Errorf("%w: listing sessions: %w", ErrTemporary, err))
				return
			}
			s, err := c.Resume(ctx, id)
			if errors.Is(err, ErrSessionEnded) {
				continue // meanwhile
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// ID returns the ID of the session, for Client.Resume. Whoever can choose the ID can use the
// session, so keep it where the browser's user cannot change it, such as in a signed cookie.
func (s *Session) ID() SessionID { return s.id }

// DID returns the account.
func (s *Session) DID() syntax.DID { return s.id.DID() }

// Info describes the session, without making requests.
func (s *Session) Info() Info { return s.last.Load().info(s.id) }

func (h *held) info(id SessionID) Info {
	return Info{
		ID: id, DID: h.DID, Handle: h.Handle, PDS: h.PDS, Issuer: h.Issuer, Scope: h.Scope, Created: h.Created, Renewed: h.Renewed,
		Expires: h.Expires, Uncertain: h.Unsure,
	}
}

// callTimeout bounds a call of Session.HTTPClient, with the reading of its answer.
const callTimeout = time.Minute

// HTTPClient returns a client for requests to the account's PDS, with the session's token and a
// proof. A call including its response may take a minute. For longer ones, make an http.Client with
// the Session, which is an http.RoundTripper. Redirects are not followed. See RoundTrip.
func (s *Session) HTTPClient() *http.Client {
	return &http.Client{
		Transport: s, Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Client returns an XRPC client that calls the account's PDS. Make a new one if the account moves
// to another PDS.
func (s *Session) Client() *xrpc.Client {
	return &xrpc.Client{
		Host: s.Info().PDS, HTTP: s.HTTPClient(),
		// A session that has ended is found before the request, which would be tried again.
		Authorize: func(r *http.Request) error {
			_, err := s.current(r.Context())
			return err
		},
	}
}

// current returns the session with an access token that is good for some time.
func (s *Session) current(ctx context.Context) (*held, error) {
	if e := s.ended.Load(); e != nil {
		return nil, e
	}
	h := s.last.Load()
	now := s.c.now()
	if !h.stale(now) || !h.expired(now) && now.UnixNano() < s.wait.Load() {
		return h, nil
	}
	newer, err := s.renew(ctx, h, whenStale)
	if err != nil && errors.Is(err, ErrTemporary) && ctx.Err() == nil && !h.expired(now) {
		s.wait.Store(now.Add(renewPause).UnixNano())
		return h, nil // it is good for some seconds yet
	}
	return newer, err
}

// renewPause is the time between attempts to renew a token that is good for some seconds yet.
const renewPause = 3 * time.Second

// renew replaces the access token that h has.
func (s *Session) renew(ctx context.Context, h *held, why cause) (*held, error) {
	if e := s.ended.Load(); e != nil {
		return nil, e
	}
	newer, err := s.c.renew(ctx, s.id, h.Access, why)
	if err != nil {
		var e *EndedError
		if errors.As(err, &e) {
			s.ended.Store(e)
		}
		return nil, err
	}
	for {
		last := s.last.Load()
		if last.Times > newer.Times {
			return last, nil // another call was faster, and twice
		}
		if s.last.CompareAndSwap(last, newer) {
			return newer, nil
		}
	}
}

// Refresh renews the session now, unless another process has done so since this Session was last
// read. Sessions renew themselves when necessary. Errors are ErrSessionEnded, ErrTemporary,
// ErrServer, ErrKey, or an *Error of the server.
func (s *Session) Refresh(ctx context.Context) error {
	_, err := s.renew(ctx, s.last.Load(), whenAsked)
	return err
}

// Revoke ends the session, here and on the server. If the request to the server fails, the session
// is deleted here nevertheless, and the error is as in Refresh.
func (s *Session) Revoke(ctx context.Context) error {
	gone, err := s.c.revoke(ctx, s.id)
	if gone {
		s.ended.Store(&EndedError{ID: s.id, Reason: EndedRevoked})
	}
	return err
}
