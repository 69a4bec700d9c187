package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/pds/internal/metrics"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// clock is what is known of the server's clock.
type clock struct {
	watch   *timecheck.Watch
	stopped chan struct{}
	offset  metrics.Level
	refused metrics.Counter

	mu     sync.Mutex
	last   timecheck.Result
	known  bool // there is a last result
	ahead  int  // accounts whose revision is ahead
	listed bool // ahead is known
}

// errClock is the answer to what needs a signature while the clock is not trusted.
var errClock = &xrpc.Error{
	Status: http.StatusServiceUnavailable, Name: "ClockNotTrusted", Message: "The server's clock is wrong, so that nothing can be signed now",
	Header: http.Header{"Retry-After": {"60"}},
}

// openClock prepares to watch the clock.
func (s *Server) openClock() {
	s.clock.watch = &timecheck.Watch{
		Now: s.cfg.Now, Servers: s.timeServers(), Log: s.store.Events, Checked: s.checkedClock,
		HTTP: &http.Client{
			Timeout:       10 * time.Second, // to addresses that the operator has named
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// timeServers are the servers whose Date headers the clock is compared with: the directory and the
// relays. A directory in this process has the same clock and proves nothing.
func (s *Server) timeServers() []string {
	var plc string
	if s.plcDir == nil {
		plc = s.plcURL
	}
	return TimeServers(plc, s.cfg.Crawlers)
}

// TimeServers are the addresses at which a directory (empty: none) and relays are asked for the
// time.
func TimeServers(plc string, relays []string) (list []string) {
	if plc != "" {
		list = append(list, strings.TrimSuffix(plc, "/")+"/_health")
	}
	for _, relay := range relays {
		if !strings.Contains(relay, "://") {
			relay = "https://" + relay
		}
		list = append(list, strings.TrimSuffix(relay, "/")+"/xrpc/_health")
	}
	return list
}

// register makes the metrics of the clock.
func (c *clock) register(m *metrics.Registry) {
	m.Gauge("pds_clock_trusted", "Whether the clock is found to be right. While it is 0, nothing is signed, unless PDS_CLOCK_CHECK is off.", c.gauge(func() float64 {
		if c.last.Err != nil {
			return 0
		}
		return 1
	}, &c.known))
	m.Gauge("pds_clock_log_ahead_seconds", "How far the newest event is ahead of the clock.", c.gauge(func() float64 { return c.last.Ahead.Seconds() }, &c.known))
	m.Gauge("pds_accounts_ahead", "Accounts whose revision is so far in the future that the network ignores them, as of the last maintenance.", c.gauge(func() float64 { return float64(c.ahead) }, &c.listed))
	c.offset = m.Level("pds_clock_offset_seconds", "How far the clock is ahead of a server's; negative: behind.", "server")
	c.refused = m.Counter("pds_clock_refusals_total", "Signatures that were refused because the clock is not trusted.")
}

// gauge reads a number under the lock, if it is known.
func (c *clock) gauge(read func() float64, known *bool) func() (float64, bool) {
	return func() (float64, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return read(), *known
	}
}

// startClock watches the clock until the context ends.
func (s *Server) startClock(ctx context.Context) {
	s.clock.stopped = make(chan struct{})
	go func() {
		defer close(s.clock.stopped)
		s.clock.watch.Run(ctx)
	}()
}

// stopClock waits for the end of that, once its context has ended.
func (s *Server) stopClock() {
	if s.clock.stopped != nil {
		<-s.clock.stopped
	}
}

// checkClock refuses to sign while the clock is not trusted, unless the operator says otherwise.
func (s *Server) checkClock(ctx context.Context) error {
	if !s.cfg.ClockCheck || s.clock.watch == nil {
		return nil
	}
	err := s.clock.watch.Check(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	s.clock.refused.Add(1)
	return fmt.Errorf("%w: %w", errClock, err)
}

// checkedClock logs what a check has found.
func (s *Server) checkedClock(r timecheck.Result) {
	c := &s.clock
	c.mu.Lock()
	before := c.last
	c.last, c.known = r, true
	c.mu.Unlock()
	for _, a := range r.Servers {
		if a.Err == nil {
			c.offset.Set(a.Offset.Seconds(), a.Server)
		}
	}
	switch {
	case r.Err != nil && s.cfg.ClockCheck:
		s.log.Error("the clock is wrong: nothing is signed until it is right (PDS_CLOCK_CHECK=false signs all the same)", "err", r.Err, "clock", r.Time)
	case r.Err != nil:
		s.log.Error("the clock is wrong: the network may ignore what is signed now", "err", r.Err, "clock", r.Time)
	case before.Err != nil:
		s.log.Warn("the clock is right again", "clock", r.Time)
	case r.Jump != 0:
		s.log.Error("the clock has jumped", "by", r.Jump, "clock", r.Time)
	}
	if r.Err == nil && r.Ahead > commit.DefaultDrift && before.Ahead <= commit.DefaultDrift {
		s.log.Error("the clock is right now and was ahead once: the newest event is from the future. Stop the server, and run pds check to see which accounts the network ignores", "ahead", r.Ahead)
	}
}

// aheadAccounts counts the accounts whose revisions the network ignores because they are from the
// future.
type aheadAccounts struct {
	now   time.Time
	n     int
	first syntax.DID
	until time.Time // when the last of them is accepted
}

func (a *aheadAccounts) look(info storage.RepoInfo) {
	if commit.Ahead(info.Head.Rev, a.now, 0) == 0 {
		return
	}
	if a.n++; a.n == 1 {
		a.first = info.DID
	}
	if until := info.Head.Rev.Time().Add(-commit.DefaultDrift); until.After(a.until) {
		a.until = until
	}
}

// foundAhead reports what was counted.
func (s *Server) foundAhead(a aheadAccounts) {
	s.clock.mu.Lock()
	s.clock.ahead, s.clock.listed = a.n, true
	s.clock.mu.Unlock()
	if a.n > 0 {
		s.log.Error("the revisions of accounts lie in the future: the network ignores what they write. Run pds check",
			"accounts", a.n, "first", a.first, "until", a.until.UTC().Format(time.RFC3339))
	}
}
