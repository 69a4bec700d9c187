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

// Level is the severity of a finding.
type Level string

// Levels from the best to the worst.
const (
	OK      Level = "ok"
	Skipped Level = "skipped" // it could not be found out, and that is no fault
	Warning Level = "warning" // it works, and will not for ever or for everybody
	Problem Level = "problem" // something does not work
)

func (l Level) rank() int { return slices.Index([]Level{OK, Skipped, Warning, Problem}, l) }

// Worse reports whether a level is worse than another one.
func (l Level) Worse(than Level) bool { return l.rank() > than.rank() }

// Finding is one result of a check.
type Finding struct {
	Check string `json:"check"` // the name of the check
	// Subject is a handle, a relay or the like, if a check is about several things.
	Subject string `json:"subject,omitempty"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`
	// Remedy says what to do. Findings that are not good have one.
	Remedy string `json:"remedy,omitempty"`
	// Until is when a good state ends, such as the validity of a certificate.
	Until time.Time `json:"until,omitzero"`
}

// Good returns a finding without a problem.
func Good(format string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(format, args...)}
}

// Skip returns a finding that something could not be checked, without a fault.
func Skip(format string, args ...any) Finding {
	return Finding{Level: Skipped, Text: fmt.Sprintf(format, args...)}
}

// Warn returns a finding of that level, with a remedy.
func Warn(remedy, format string, args ...any) Finding {
	return Finding{Level: Warning, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Bad returns a finding that something does not work, with a remedy.
func Bad(remedy, format string, args ...any) Finding {
	return Finding{Level: Problem, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// About returns the finding with a subject.
func (f Finding) About(subject string) Finding {
	f.Subject = subject
	return f
}

// Check checks one aspect of a server.
type Check struct {
	// Name is short, in lower case, and never changes: metrics use it as a label.
	Name string
	// Timeout bounds Run. 0: 15 seconds.
	Timeout time.Duration
	// Run returns at least one finding. The caller sets their Check. Run should return soon after
	// its context ends; otherwise it is abandoned.
	Run func(ctx context.Context) []Finding
}

const (
	defaultTimeout = 15 * time.Second
	maxText        = 600 // bytes of a text
	maxFindings    = 200 // of one check
)

// Report has the findings of checks at a time.
type Report struct {
	Time     time.Time     `json:"time"`
	Took     time.Duration `json:"took"` // nanoseconds
	Level    Level         `json:"level"`
	Findings []Finding     `json:"findings"` // in the order of the checks
}

// Levels returns the worst level of each check, by its name.
func (r Report) Levels() map[string]Level {
	m := make(map[string]Level)
	for _, f := range r.Findings {
		if have, ok := m[f.Check]; !ok || f.Level.Worse(have) {
			m[f.Check] = f.Level
		}
	}
	return m
}

// Run runs checks concurrently.
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

// Doctor runs checks from time to time and on request. Do not change its fields after the first
// use. It is safe for concurrent use.
type Doctor struct {
	Checks []Check
	// First is the delay before the first round of Run, and Interval that between rounds. 0: one
	// minute, one hour.
	First, Interval time.Duration
	// Done, if not nil, is called with each report. Calls do not overlap.
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

// Now runs the checks and returns their report. Concurrent callers share one run; a caller that
// stops waiting does not end it for others.
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
