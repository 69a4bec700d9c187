package crawl

import (
	"errors"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

const (
	// maxTries is how often a request is made for one reason.
	maxTries = 6
	// maxWait bounds how long a relay may ask to be left alone, and is how long one is
	// that has banned the host.
	maxWait = 24 * time.Hour
)

// schedule decides when one relay is asked. It knows no clock but what it is told.
type schedule struct {
	interval time.Duration // between requests
	soon     time.Duration // between requests while nobody is subscribed, at first
	gap      time.Duration // the same, at present

	reason     Reason    // of the next request; empty: none is planned
	due        time.Time // when it is made
	unreported bool      // there is an event that the relay was not told of
	last       time.Time // of the last request
	reporting  bool      // the request under way tells of an event
	notBefore  time.Time // what failures impose
	failed     int       // requests in a row
}

// planRequest plans a request not before a time, unless one is planned that comes sooner.
func (s *schedule) planRequest(reason Reason, at time.Time) {
	if !s.last.IsZero() {
		gap := s.gap
		if reason == Written {
			gap = s.interval
		}
		at = later(at, s.last.Add(gap))
	}
	if at = later(at, s.notBefore); s.reason == "" || at.Before(s.due) {
		s.reason, s.due = reason, at
	}
}

// written plans a request because of a new event.
func (s *schedule) written(now time.Time, watched bool) {
	s.unreported = true
	if watched {
		s.gap = s.soon
		s.planRequest(Written, now)
	} else {
		s.planRequest(Unwatched, now)
	}
}

// take returns why a request is to be made now, if one is.
func (s *schedule) take(now time.Time, watched bool) (Reason, bool) {
	if s.reason == Unwatched && watched && !now.Before(s.due) {
		// Somebody has come. That leaves the events, of which this relay may not know.
		s.reason, s.gap = "", s.soon
		if s.unreported {
			s.planRequest(Written, now)
		}
	}
	if s.reason == "" || now.Before(s.due) {
		return "", false
	}
	if now.Before(s.notBefore) {
		s.due = s.notBefore
		return "", false
	}
	reason := s.reason
	s.reason, s.last = "", now
	s.reporting, s.unreported = s.unreported, false
	if reason == Unwatched {
		s.gap = min(2*s.gap, s.interval)
	}
	return reason, true
}

// order takes a request that nobody has planned. One that was planned is made by it.
func (s *schedule) order(now time.Time) {
	s.reason, s.last = "", now
	s.reporting, s.unreported = s.reporting || s.unreported, false // one may be under way
}

// done notes how a request went. It returns when it is tried again; zero: it is not.
func (s *schedule) done(reason Reason, now time.Time, err error) (retry time.Time) {
	if err == nil {
		s.failed, s.notBefore = 0, time.Time{}
		return retry
	}
	s.unreported = s.unreported || s.reporting
	if banned(err) {
		s.failed, s.notBefore = 0, now.Add(maxWait)
		return retry
	}
	wait := min(s.soon<<s.failed, s.interval)
	var xerr *xrpc.Error
	if errors.As(err, &xerr) {
		wait = max(wait, min(xerr.RetryAfter(now), maxWait))
	}
	s.notBefore = now.Add(wait)
	if s.failed++; s.failed >= maxTries {
		s.failed = 0
		return retry
	}
	s.reason, s.due = reason, s.notBefore
	return s.due
}

// banned reports whether a relay has said that it will not have this host.
func banned(err error) bool {
	return errors.Is(err, &xrpc.Error{Name: "HostBanned"}) || errors.Is(err, &xrpc.Error{Name: "DomainBan"})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
