package pds

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// clock watches the server's clock: nothing is signed while it is known to be wrong.
type clock struct {
	watch *timecheck.Watch

	mu   sync.Mutex
	last timecheck.Result
}

// ErrClock is the response to a request that needs a signature while the clock is not trusted.
var ErrClock = &xrpc.Error{
	Status: http.StatusServiceUnavailable, Name: "ClockNotTrusted", Message: "The server's clock is wrong, so that nothing can be signed now",
	Header: http.Header{"Retry-After": {"60"}},
}

// openClock prepares to watch the clock.
func (s *Server) openClock() {
	s.clock.watch = &timecheck.Watch{
		Now: s.cfg.Now, Servers: s.cfg.TimeServers, Log: s.cfg.Store.Events, Checked: s.checkedClock,
		HTTP: &http.Client{
			Timeout:       10 * time.Second, // to addresses that the operator has named
			Transport:     s.cfg.operatorTransport(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// checkClock refuses to sign while the clock is not trusted, unless the operator says otherwise.
func (s *Server) checkClock(ctx context.Context) error {
	if s.cfg.SignAnyway {
		return nil
	}
	err := s.clock.watch.Check(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if s.cfg.Hooks.Unsigned != nil {
		s.cfg.Hooks.Unsigned()
	}
	return fmt.Errorf("%w: %w", ErrClock, err)
}

// checkedClock logs what a check has found.
func (s *Server) checkedClock(r timecheck.Result) {
	c := &s.clock
	c.mu.Lock()
	before := c.last
	c.last = r
	c.mu.Unlock()
	switch {
	case r.Err != nil && !s.cfg.SignAnyway:
		s.log.Error("the clock is wrong: nothing is signed until it is right", "err", r.Err, "clock", r.Time)
	case r.Err != nil:
		s.log.Error("the clock is wrong: the network may ignore what is signed now", "err", r.Err, "clock", r.Time)
	case before.Err != nil:
		s.log.Warn("the clock is right again", "clock", r.Time)
	case r.Jump != 0:
		s.log.Error("the clock has jumped", "by", r.Jump, "clock", r.Time)
	}
	if r.Err == nil && r.Ahead > commit.DefaultDrift && before.Ahead <= commit.DefaultDrift {
		s.log.Error("the clock is right now and was ahead once: the newest event is from the future. Check which accounts the network ignores", "ahead", r.Ahead)
	}
	if s.cfg.Hooks.Clock != nil {
		s.cfg.Hooks.Clock(r)
	}
}
