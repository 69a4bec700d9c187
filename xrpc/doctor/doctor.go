package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// Level is how bad a finding is.
type Level string

// The levels, from the best to the worst.
const (
	OK      Level = "ok"
	Skipped Level = "skipped" // it could not be found out, and that is no fault
	Warning Level = "warning" // it works, and will not for ever or for everybody
	Problem Level = "problem" // something does not work
)

func (l Level) rank() int { return slices.Index([]Level{OK, Skipped, Warning, Problem}, l) }

// Worse reports whether a level is worse than another one.
func (l Level) Worse(than Level) bool { return l.rank() > than.rank() }

// Finding is what a check has found of one thing.
type Finding struct {
	Check string `json:"check"` // the name of the check
	// Subject is what it is about, where a check is about several things: a handle, a relay.
	Subject string `json:"subject,omitempty"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`
	// Remedy is what to do. Findings that are not good have one.
	Remedy string `json:"remedy,omitempty"`
	// Until is when something ends that is good now, such as a certificate.
	Until time.Time `json:"until,omitzero"`
}

// Good is a finding that all is well.
func Good(format string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(format, args...)}
}

// Skip is a finding that something could not be found out, for no fault.
func Skip(format string, args ...any) Finding {
	return Finding{Level: Skipped, Text: fmt.Sprintf(format, args...)}
}

// Warn and Bad are findings of that level, with a remedy.
func Warn(remedy, format string, args ...any) Finding {
	return Finding{Level: Warning, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Bad is a finding that something does not work, with a remedy.
func Bad(remedy, format string, args ...any) Finding {
	return Finding{Level: Problem, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// About returns the finding with a subject.
func (f Finding) About(subject string) Finding {
	f.Subject = subject
	return f
}

// Check looks at one side of a server.
type Check struct {
	// Name is short, in lower case, and the same for ever: metrics have it as a label.
	Name string
	// Timeout bounds Run. 0: 15 seconds.
	Timeout time.Duration
	// Run returns what is found: at least one finding. Check names are filled in by the caller. It
	// should return soon after its context ends; one that does not is left behind.
	Run func(ctx context.Context) []Finding
}

const (
	defaultTimeout = 15 * time.Second
	maxText        = 600 // bytes of a text
	maxFindings    = 200 // of one check
)

// Report is what checks have found at a time.
type Report struct {
	Time     time.Time     `json:"time"`
	Took     time.Duration `json:"took"` // nanoseconds
	Level    Level         `json:"level"`
	Findings []Finding     `json:"findings"` // in the order of the checks
}

// Levels are the worst findings of each check, by its name.
func (r Report) Levels() map[string]Level {
	m := make(map[string]Level)
	for _, f := range r.Findings {
		if have, ok := m[f.Check]; !ok || f.Level.Worse(have) {
			m[f.Check] = f.Level
		}
	}
	return m
}

// Run runs checks, all at the same time.
func Run(ctx context.Context, checks []Check) Report {
	begin := time.Now()
	found := make([][]Finding, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() { found[i] = c.run(ctx) })
	}
	all.Wait()
	r := Report{Time: begin.UTC(), Took: time.Since(begin), Level: OK, Findings: slices.Concat(found...)}
	for _, f := range r.Findings {
		if f.Level.Worse(r.Level) && f.Level != Skipped {
			r.Level = f.Level
		}
	}
	return r
}

// run runs a check within its time.
func (c Check) run(ctx context.Context) []Finding {
	limit := c.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan []Finding, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- []Finding{Bad("this is a fault of the program: please report it", "the check failed: %v", p)}
			}
		}()
		done <- c.Run(ctx)
	}()
	var list []Finding
	select {
	case list = <-done:
	case <-ctx.Done():
		select { // it may have ended at the same time
		case list = <-done:
		case <-time.After(time.Second):
			list = []Finding{Bad("try again; if it stays so, look at the network of this machine", "no result within %s", limit)}
		}
	}
	if len(list) == 0 {
		list = []Finding{Skip("nothing to check")}
	}
	list = slices.Clone(list[:min(len(list), maxFindings)])
	for i := range list {
		f := &list[i]
		f.Check, f.Text, f.Remedy, f.Subject = c.Name, line(f.Text), line(f.Remedy), line(f.Subject)
		if f.Level.rank() < 0 {
			f.Level = Problem
		}
	}
	return list
}

// line is a text on one line, of bounded length: parts of it were written by strangers.
func line(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, s)
}

// Doctor runs checks from time to time and when it is asked. Its fields must not change once it is
// used. It is safe for concurrent use.
type Doctor struct {
	Checks []Check
	// First is the time before the first round of Run, and Interval that between rounds. 0: one
	// minute, one hour.
	First, Interval time.Duration
	// Done, if not nil, is told of each report. Calls do not overlap.
	Done func(Report)

	mu      sync.Mutex
	last    Report
	running *round
}

// round is one that is under way.
type round struct {
	done   chan struct{}
	report Report
}

// Last returns the last report. Its time is zero if there was none.
func (d *Doctor) Last() Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// Now runs the checks and returns their report. Who asks while they run gets the same report; a
// caller that does not wait for it stops nobody else's.
func (d *Doctor) Now(ctx context.Context) (Report, error) {
	d.mu.Lock()
	r := d.running
	if r == nil {
		r = &round{done: make(chan struct{})}
		d.running = r
		go d.round(context.WithoutCancel(ctx), r)
	}
	d.mu.Unlock()
	select {
	case <-r.done:
		return r.report, nil
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
}

func (d *Doctor) round(ctx context.Context, r *round) {
	r.report = Run(ctx, d.Checks)
	if d.Done != nil {
		d.Done(r.report)
	}
	d.mu.Lock()
	d.last, d.running = r.report, nil
	d.mu.Unlock()
	close(r.done)
}

// Run runs the checks from time to time, until the context ends.
func (d *Doctor) Run(ctx context.Context) {
	first, interval := d.First, d.Interval
	if first <= 0 {
		first = time.Minute
	}
	if interval <= 0 {
		interval = time.Hour
	}
	for pause := first; ; pause = interval {
		if sleep.For(ctx, pause) != nil {
			return
		}
		d.Now(ctx)
	}
}
