package timecheck

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// ErrClock: the clock cannot be trusted. The wrapping error says why, and how wrong it is.
var ErrClock = errors.New("timecheck: the clock cannot be trusted")

// Log is the part of a host's event log that a Watch uses; storage.Events implements it.
type Log interface {
	// Bounds returns the span of the log. newest is the greatest number ever assigned. It is not
	// less than the time of its assignment in microseconds.
	Bounds(ctx context.Context) (oldest, newest int64, err error)
}

// Watch watches a clock. The zero value only detects jumps while it runs. It is safe for concurrent
// use. Do not change its fields after the first use.
type Watch struct {
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Servers are URLs, "https://plc.directory", whose Date headers are trusted. They are requested
	// with HEAD. None: the clock is compared only with the log.
	Servers []string
	// HTTP makes the requests. Nil: a client that follows no redirects and may connect to any
	// address, since the operator trusts the servers.
	HTTP *http.Client
	// Log is the host's event log. Nil: it is not used.
	Log Log
	// Tolerance is how wrong the clock may be. Receivers ignore revisions that are more than five
	// minutes ahead. 0: 2 minutes.
	Tolerance time.Duration
	// Interval is the time between checks, and Soon the time between checks while the clock is not
	// trusted. 0: 10 minutes, and 30 seconds.
	Interval, Soon time.Duration
	// Timeout bounds one check, and how long Check waits for the first one. 0: 5 seconds.
	Timeout time.Duration
	// Checked, if not nil, is called after each check. Calls do not overlap.
	Checked func(Result)

	once  sync.Once
	begun sync.Once     // the first check
	start time.Time     // its monotonic reading is that of the first use
	first chan struct{} // closed after the first check
	wake  chan struct{} // has an element when a check is wanted
	check sync.Mutex    // held by the check that is under way

	mu     sync.Mutex
	last   Result
	base   time.Time     // the clock at the last check
	passed time.Duration // since start, at the last check
}

// Result is the result of a check.
type Result struct {
	// Time is the time of the check by the clock.
	Time time.Time
	// Servers are the servers' answers.
	Servers []Answer
	// Ahead is by how much the newest event of the log is ahead of the clock; 0 if it is not.
	Ahead time.Duration
	// Jump is by how much the clock has advanced more than the real time since the last check;
	// negative: less. Jumps within the tolerance are 0.
	Jump time.Duration
	// Err is nil if the clock is trusted; otherwise it wraps ErrClock.
	Err error
}

// Answer is one server's answer.
type Answer struct {
	Server string
	// Offset is by how much the clock is ahead of the server; negative: behind. Its precision is a
	// second or two.
	Offset time.Duration
	// Err is set if there was no answer.
	Err error
}

// Confirmed reports whether a server agrees with the clock.
func (r Result) Confirmed(tolerance time.Duration) bool {
	for _, a := range r.Servers {
		if a.Err == nil && a.Offset.Abs() <= tolerance {
			return true
		}
	}
	return false
}

func (w *Watch) init() {
	w.once.Do(func() {
		w.start, w.first, w.wake = time.Now(), make(chan struct{}), make(chan struct{}, 1)
		w.base = w.now()
	})
}

func (w *Watch) now() time.Time {
	if w.Now != nil {
		return w.Now().Round(0)
	}
	return time.Now().Round(0) // without its monotonic reading, which does not follow the clock
}

// Run checks the clock at once and then periodically, until the context ends. It returns the
// context's error.
func (w *Watch) Run(ctx context.Context) error {
	w.init()
	for {
		res, made := w.begin(ctx)
		if !made {
			res = w.CheckNow(ctx)
		}
		wait := or(w.Interval, 10*time.Minute)
		if res.Err != nil {
			wait = or(w.Soon, 30*time.Second)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Check returns nil if the clock is trusted. Use it as repo.Config.CheckClock. Usually it answers
// from memory. If there was no check yet, it makes or awaits the first one, up to Timeout after the
// first use of the Watch. If the clock has jumped since the last check, it makes another one.
func (w *Watch) Check(ctx context.Context) error {
	w.init()
	w.mu.Lock()
	jumped := w.jump(w.now()) != 0
	w.mu.Unlock()
	select {
	case <-w.first:
	default:
		go w.begin(context.WithoutCancel(ctx)) // Run may not have been called yet
		timer := time.NewTimer(or(w.Timeout, 5*time.Second) - time.Since(w.start))
		defer timer.Stop()
		select {
		case <-w.first:
			jumped = false
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if jumped {
		// One caller checks, and the others wait for it: see CheckNow. A caller that goes away
		// must not spoil it.
		if err := w.checkJump(context.WithoutCancel(ctx)).Err; err != nil {
			select { // the next check comes soon
			case w.wake <- struct{}{}:
			default:
			}
			return err
		}
		return nil
	}
	return w.Last().Err
}

// begin makes the first check, or waits for it while somebody else makes it.
func (w *Watch) begin(ctx context.Context) (res Result, made bool) {
	w.begun.Do(func() { res, made = w.CheckNow(ctx), true })
	return res, made
}

// checkJump is CheckNow, unless another caller has made the check meanwhile.
func (w *Watch) checkJump(ctx context.Context) Result {
	w.check.Lock()
	defer w.check.Unlock()
	w.mu.Lock()
	last, jumped := w.last, w.jump(w.now()) != 0
	w.mu.Unlock()
	if !jumped {
		return last
	}
	return w.run(ctx)
}

// Last returns the result of the last check.
func (w *Watch) Last() Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// CheckNow makes a check, which takes at most Timeout.
func (w *Watch) CheckNow(ctx context.Context) Result {
	w.init()
	w.check.Lock()
	defer w.check.Unlock()
	return w.run(ctx)
}

// run makes a check. The caller holds w.check.
func (w *Watch) run(ctx context.Context) Result {
	w.mu.Lock()
	jump, doubted := w.jump(w.now()), w.last.Err != nil && w.last.Jump != 0
	before := w.last.Jump
	w.mu.Unlock()
	if jump == 0 && doubted {
		jump = before // nobody has said yet which time is right
	}
	ctx, cancel := context.WithTimeout(ctx, or(w.Timeout, 5*time.Second))
	defer cancel()
	res := Result{Time: w.now(), Jump: jump, Servers: w.ask(ctx)}
	if w.Log != nil {
		// After the servers have answered: an event that is made meanwhile is not ahead.
		if _, newest, err := w.Log.Bounds(ctx); err == nil {
			res.Ahead = max(0, time.UnixMicro(newest).Sub(w.now()))
		}
	}
	res.Err = w.judge(res)

	w.mu.Lock()
	first := w.last.Time.IsZero()
	w.last, w.base, w.passed = res, w.now(), time.Since(w.start)
	w.mu.Unlock()
	if first {
		close(w.first)
	}
	if w.Checked != nil {
		w.Checked(res)
	}
	return res
}

// jump returns how far the clock has jumped since the last check. The caller holds w.mu.
func (w *Watch) jump(now time.Time) time.Duration {
	jump := now.Sub(w.base) - (time.Since(w.start) - w.passed)
	if jump.Abs() <= w.tolerance() {
		return 0
	}
	return jump
}

func (w *Watch) tolerance() time.Duration { return or(w.Tolerance, 2*time.Minute) }

// judge decides whether the clock is trusted.
func (w *Watch) judge(r Result) error {
	if r.Confirmed(w.tolerance()) {
		return nil
	}
	var nearest *Answer
	for i, a := range r.Servers {
		if a.Err == nil && (nearest == nil || a.Offset.Abs() < nearest.Offset.Abs()) {
			nearest = &r.Servers[i]
		}
	}
	round := func(d time.Duration) time.Duration { return d.Abs().Round(time.Second) }
	switch {
	case nearest != nil && nearest.Offset > 0:
		return fmt.Errorf("%w: it is %s ahead of %s", ErrClock, round(nearest.Offset), nearest.Server)
	case nearest != nil:
		return fmt.Errorf("%w: it is %s behind %s", ErrClock, round(nearest.Offset), nearest.Server)
	case r.Ahead > w.tolerance():
		return fmt.Errorf("%w: the newest event is %s ahead of it: it is behind now, or was ahead then, and no server has said which", ErrClock, round(r.Ahead))
	case r.Jump != 0 && len(w.Servers) > 0:
		return fmt.Errorf("%w: it has jumped by %s, and no server has said whether it is right now", ErrClock, r.Jump.Round(time.Second))
	}
	return nil
}

// ask asks all servers at once.
func (w *Watch) ask(ctx context.Context) []Answer {
	answers := make([]Answer, len(w.Servers))
	var wg sync.WaitGroup
	for i, server := range w.Servers {
		wg.Go(func() {
			offset, err := w.offset(ctx, server)
			answers[i] = Answer{Server: server, Offset: offset, Err: err}
		})
	}
	wg.Wait()
	return answers
}

// plain is the client for the servers that the operator has named.
var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// offset returns how far the clock is ahead of a server.
func (w *Watch) offset(ctx context.Context, server string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, server, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Cache-Control", "no-cache")
	client := w.HTTP
	if client == nil {
		client = plain
	}
	begin := w.now()
	res, err := client.Do(req)
	if err != nil {
		if urlErr := (*url.Error)(nil); errors.As(err, &urlErr) {
			err = urlErr.Err
		}
		return 0, err
	}
	res.Body.Close()
	end := w.now()
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("no Date in the answer: %w", err)
	}
	// An answer from a cache is older than it looks.
	if age, err := strconv.ParseUint(res.Header.Get("Age"), 10, 31); err == nil {
		date = date.Add(time.Duration(age) * time.Second)
	}
	// The server has looked at its clock between begin and end, and left out the fraction.
	switch latest := date.Add(time.Second); {
	case begin.After(latest):
		return begin.Sub(latest), nil
	case end.Before(date):
		return end.Sub(date), nil
	}
	return 0, nil
}

func or(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
