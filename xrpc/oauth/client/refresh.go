package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// cause is why a session is renewed.
type cause int

const (
	whenStale   cause = iota // the access token is about to expire, or has
	whenRefused              // the PDS has refused it
	whenAsked
)

// flight is a renewal, or the end of a session, that is under way in this process.
type flight struct {
	done    chan struct{} // closed when held and err are set
	ends    bool          // it revokes the session: held stays nil, and err is for its caller alone
	revoked bool          // the session was revoked, or was gone before
	held    *held
	err     error
}

// Timeouts of a renewal. The lock is held for longer than the work can take.
const (
	lockWait    = 75 * time.Second
	renewTime   = 50 * time.Second
	storeTime   = 10 * time.Second
	lockLife    = renewTime + 2*storeTime
	storeTries  = 3
	adoptionGap = time.Second // within which somebody without a lock stores what it has got
)

// renew replaces an access token by a newer one: that of the store, or one that the server gives
// out. The work goes on when ctx ends, as an answer that nobody stores would end the session.
func (c *Client) renew(ctx context.Context, id SessionID, seen string, why cause) (*held, error) {
	for {
		c.mu.Lock()
		f := c.flights[id]
		mine := f == nil
		if mine {
			f = &flight{done: make(chan struct{})}
			c.flights[id] = f
			go c.fly(context.WithoutCancel(ctx), id, f, func(ctx context.Context) (*held, error) { return c.renewLocked(ctx, id, seen, why) })
		}
		c.mu.Unlock()
		select {
		case <-f.done:
			if f.ends {
				continue // the next one finds out whether the session is still there
			}
			if mine || f.err != nil || f.held.Access != seen {
				return f.held, f.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
		}
	}
}

// fly does something with a session, alone among all processes.
func (c *Client) fly(ctx context.Context, id SessionID, f *flight, work func(context.Context) (*held, error)) {
	defer func() {
		c.mu.Lock()
		delete(c.flights, id)
		c.mu.Unlock()
		close(f.done)
	}()
	wait, cancel := context.WithTimeout(ctx, lockWait)
	unlock, err := c.cfg.Locks.Lock(wait, "session "+string(id), lockLife)
	cancel()
	if err != nil {
		f.err = fmt.Errorf("%w: locking the session: %w", ErrTemporary, err)
		return
	}
	defer unlock()
	ctx, cancel = context.WithTimeout(ctx, renewTime)
	defer cancel()
	f.held, f.err = work(ctx)
}

// load returns a session from the store. One that could not be stored is stored first.
func (c *Client) load(ctx context.Context, id SessionID) (*held, error) {
	c.mu.Lock()
	h := c.unsaved[id]
	c.mu.Unlock()
	if h != nil {
		return c.save(ctx, id, h)
	}
	raw, err := c.cfg.Sessions.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, &EndedError{ID: id, Reason: EndedGone}
	case err != nil:
		return nil, fmt.Errorf("%w: reading the session: %w", ErrTemporary, err)
	}
	return c.unsealSession(id, raw)
}

// renewLocked is renew, while nobody else renews the session.
func (c *Client) renewLocked(ctx context.Context, id SessionID, seen string, why cause) (*held, error) {
	h, err := c.load(ctx, id)
	if err != nil || h.Access != seen {
		return h, err // somebody else has renewed it, or ended it
	}
	if h.Refresh == "" {
		if why == whenRefused || h.expired(c.now()) {
			return nil, c.end(ctx, id, h, EndedRefused, errors.New("it has no refresh token"))
		}
		if why == whenStale {
			return h, nil
		}
		return nil, fmt.Errorf("%w: it gave no refresh token", ErrServer)
	}
	s, pds, err := c.stillAt(ctx, h)
	if errors.Is(err, errMoved) {
		return nil, c.endAndRevoke(ctx, id, h, s, EndedMoved, err)
	}
	if err != nil {
		return nil, err
	}
	// That may have taken long, and this machine may have slept, so that the lock has ended.
	if current, err := c.load(ctx, id); err != nil || current.Access != seen {
		return current, err
	}
	sent := c.now()
	var t tokens
	err = c.post(ctx, s, s.Token, h.key, h.Auth, url.Values{"grant_type": {grantRefresh}, "refresh_token": {h.Refresh}}, &t)
	switch {
	case errors.Is(err, &Error{Code: "invalid_grant"}):
		return c.refused(ctx, id, h, err)
	case ambiguous(err):
		c.markUnsure(ctx, id, h)
		return nil, fmt.Errorf("%w: renewing the session: %w", ErrTemporary, err)
	case err != nil:
		return nil, err
	}
	if t.Refresh == "" {
		t.Refresh = h.Refresh // it stays good (RFC 6749, 6)
	}
	if err = t.check(s.Issuer); err == nil && syntax.DID(t.Subject) != h.DID {
		err = fmt.Errorf("%w: %s renews a session of %s with tokens of %s", ErrMismatch, s.Issuer, h.DID, t.Subject)
	}
	if err != nil {
		c.revokeTokens(ctx, s, h.key, h.Auth, t.Refresh, t.Access)
		return nil, c.end(ctx, id, h, EndedInvalid, err)
	}
	r := h.record
	r.PDS, r.Access, r.Refresh, r.Scope, r.Renewed, r.Expires, r.Unsure = pds, t.Access, t.Refresh, t.Scope, sent.UTC(), t.expires(sent), false
	r.Times++
	raw, err := c.seal(sessionPlace+string(id), r)
	if err != nil {
		return nil, err
	}
	next, err := newHeld(r, raw)
	if err != nil {
		return nil, err
	}
	next.before = h.stored()
	next, err = c.save(ctx, id, next)
	if err == nil {
		c.updated(next.info(id))
	}
	return next, err
}

// errMoved: another server speaks for an account, or none does any more.
var errMoved = fmt.Errorf("%w: the account has moved", ErrMismatch)

// stillAt returns the authorization server of a session and the account's PDS, if the server speaks
// for the account; else errMoved. Before that is said, the account is resolved anew. Servers that
// contradict each other are another error: that may be mended.
func (c *Client) stillAt(ctx context.Context, h *held) (*Server, string, error) {
	s, err := c.disc.Server(ctx, h.Issuer)
	if err != nil {
		return nil, "", err
	}
	found, err := c.disc.hosted(ctx, h.DID)
	if err != nil || found.Server.Issuer != h.Issuer {
		found, err = c.disc.Account(ctx, syntax.AtIdentifier(h.DID))
	}
	switch {
	case errors.Is(err, identity.ErrTombstoned):
		return s, "", fmt.Errorf("%w: %w", errMoved, err)
	case err != nil:
		return s, "", err
	case found.Server.Issuer != h.Issuer:
		return s, "", fmt.Errorf("%w: %s speaks for %s now, and not %s", errMoved, found.Server.Issuer, h.DID, h.Issuer)
	}
	return s, found.PDS, nil
}

// ambiguous reports whether the server may have used up a refresh token although there is an error.
func ambiguous(err error) bool {
	var oerr *Error
	return errors.As(err, new(*answerError)) || errors.As(err, &oerr) && oerr.Status >= 500
}

// refused ends a session that the server renews no more, unless somebody else has renewed it.
func (c *Client) refused(ctx context.Context, id SessionID, h *held, why error) (*held, error) {
	if c.unlocked {
		if err := sleep.For(ctx, adoptionGap); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTemporary, err)
		}
	}
	now, err := c.load(ctx, id)
	if err != nil || now.Access != h.Access {
		return now, err
	}
	reason := EndedRefused
	if now.Unsure {
		reason = EndedLost
	}
	return nil, c.end(ctx, id, now, reason, why)
}

// end deletes a session. Its error is the *EndedError, or that of the store, or nil if somebody
// else has renewed the session.
func (c *Client) end(ctx context.Context, id SessionID, h *held, reason EndReason, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	old := h.stored()
	if reason == EndedRevoked {
		old = nil // whatever has become of it
	}
	if err := c.cfg.Sessions.Delete(ctx, id, old); err != nil {
		return fmt.Errorf("%w: deleting a session that has ended: %w", ErrTemporary, err)
	}
	c.forget(id)
	if c.cfg.OnEnd != nil {
		c.cfg.OnEnd(h.info(id), reason)
	}
	return &EndedError{ID: id, Reason: reason, Err: why}
}

// endAndRevoke ends a session, and tells the server.
func (c *Client) endAndRevoke(ctx context.Context, id SessionID, h *held, s *Server, reason EndReason, why error) error {
	c.revokeTokens(ctx, s, h.key, h.Auth, h.Refresh, h.Access)
	return c.end(ctx, id, h, reason, why)
}

// markUnsure stores that a refresh token may have been used. If that fails, nothing is lost but the
// reason why the session ends.
func (c *Client) markUnsure(ctx context.Context, id SessionID, h *held) {
	if h.Unsure {
		return
	}
	r := h.record
	r.Unsure = true
	raw, err := c.seal(sessionPlace+string(id), r)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	c.cfg.Sessions.CompareAndSwap(ctx, id, h.stored(), raw)
}

// save stores a renewed session in the place of what was there before. If the store fails, the
// session is kept in memory and stored later: the tokens of before may be of no use.
func (c *Client) save(ctx context.Context, id SessionID, unsaved *held) (*held, error) {
	mine := *unsaved // it is shared
	h := &mine
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	for try := range storeTries {
		if try > 0 && sleep.For(ctx, 20*time.Millisecond<<try) != nil {
			break
		}
		err := c.cfg.Sessions.CompareAndSwap(ctx, id, h.before, h.raw)
		if errors.Is(err, ErrConflict) {
			var now *held
			if now, err = c.overtaken(ctx, id, h); err == nil && now == nil {
				continue
			}
			if err == nil || errors.Is(err, ErrSessionEnded) {
				c.forget(id)
				return now, err
			}
		}
		if err == nil {
			c.forget(id)
			h.before = nil
			return h, nil
		}
	}
	c.mu.Lock()
	c.unsaved[id] = h
	c.mu.Unlock()
	return h, nil
}

func (c *Client) forget(id SessionID) {
	c.mu.Lock()
	delete(c.unsaved, id)
	c.mu.Unlock()
}

// overtaken finds out what the store has instead of what h was to replace. It returns what is to be
// used, or nil if h is to be stored once more.
func (c *Client) overtaken(ctx context.Context, id SessionID, h *held) (*held, error) {
	raw, err := c.cfg.Sessions.Get(ctx, id)
	if errors.Is(err, ErrNotFound) {
		// It was revoked meanwhile, so that nobody must have these tokens.
		if s, err := c.disc.Server(ctx, h.Issuer); err == nil {
			c.revokeTokens(ctx, s, h.key, h.Auth, h.Refresh, h.Access)
		}
		return nil, &EndedError{ID: id, Reason: EndedGone}
	}
	if err != nil {
		return nil, err
	}
	now, err := c.unsealSession(id, raw)
	if err != nil {
		return nil, err
	}
	if now.Times < h.Times { // a mark has changed, or it was not renewed as often
		h.before = raw
		return nil, nil
	}
	return now, nil // it may be h itself: it was stored, and the store's answer was lost
}

// revoke ends a session here and at the server. gone says that it has ended here, whatever the
// error.
func (c *Client) revoke(ctx context.Context, id SessionID) (gone bool, err error) {
	f := &flight{done: make(chan struct{}), ends: true}
	for {
		c.mu.Lock()
		other := c.flights[id]
		if other == nil {
			c.flights[id] = f
		}
		c.mu.Unlock()
		if other == nil {
			break
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
		}
	}
	go c.fly(context.WithoutCancel(ctx), id, f, func(ctx context.Context) (*held, error) {
		h, err := c.load(ctx, id)
		if errors.Is(err, ErrSessionEnded) {
			f.revoked = true
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		s, err := c.disc.Server(ctx, h.Issuer)
		if err == nil {
			err = c.revokeTokens(ctx, s, h.key, h.Auth, h.Refresh, h.Access)
		}
		if gone := c.end(ctx, id, h, EndedRevoked, nil); !errors.Is(gone, ErrSessionEnded) {
			return nil, gone
		}
		f.revoked = true
		return nil, err
	})
	select {
	case <-f.done:
		return f.revoked, f.err
	case <-ctx.Done():
		return false, fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
	}
}

func (c *Client) updated(i Info) {
	if c.cfg.OnUpdate != nil {
		c.cfg.OnUpdate(i)
	}
}
