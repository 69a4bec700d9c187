package pds

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proberAt is a prober with a clock that a test sets.
func proberAt(write func(context.Context) error) (p *prober, pass func(time.Duration)) {
	var clock atomic.Int64
	p = &prober{write: func(ctx context.Context, _ bool) error { return write(ctx) }, now: func() time.Time { return time.Unix(1_000_000, clock.Load()) }}
	return p, func(d time.Duration) { clock.Add(int64(d)) }
}

// The store is written as seldom as will do, and what is found is soon found again.
func TestProber(t *testing.T) {
	var result error
	var told []error
	probes := 0
	p, pass := proberAt(func(context.Context) error {
		probes++
		return result
	})
	p.changed = func(err error) { told = append(told, err) }
	full := errors.New("full")
	expect := func(what string, want error, n int) {
		t.Helper()
		if err := p.writable(t.Context()); !errors.Is(err, want) || err != nil && want == nil || probes != n {
			t.Fatalf("%s: %v after %d probes, want %v after %d", what, err, probes, want, n)
		}
	}
	expect("at first", nil, 1)
	result = full
	expect("soon after", nil, 1)
	pass(probeGood)
	expect("later", full, 2)
	result = nil
	expect("soon after", full, 2)
	pass(probeBad)
	expect("with room again", nil, 3)
	// A request has failed.
	result = full
	p.reportFailure()
	expect("at the same moment", nil, 3) // as many probes as requests are too many
	pass(probeBad)
	expect("soon after", full, 4)
	result = nil
	pass(probeBad)
	expect("again", nil, 5)
	if len(told) != 4 || told[0] != full || told[1] != nil || told[2] != full || told[3] != nil {
		t.Errorf("changes: %v", told)
	}
}

// However many ask, one probe is under way; a write that never ends is a failure in the end, and
// holds nobody up.
func TestProberWhoseWriteDoesNotEnd(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	var probes atomic.Int32
	p, pass := proberAt(func(context.Context) error {
		if probes.Add(1) == 1 {
			close(begun)
		}
		<-end
		return nil
	})
	ended, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if err := p.writable(ended); err != nil {
				t.Error(err)
			}
		})
	}
	<-begun
	cancel()
	asking.Wait()
	pass(probeStuck + 1)
	if err := p.writable(ended); err == nil {
		t.Error("a write that takes an hour is well")
	}
	close(end)
	p.wait(t.Context())
	if err := p.writable(t.Context()); err != nil || probes.Load() != 1 {
		t.Errorf("%v after %d probes", err, probes.Load())
	}
}

// After a failure a probe is thorough, until one succeeds.
func TestProbeAfterAFailureIsThorough(t *testing.T) {
	var seen []bool
	var fail error
	now := time.Unix(1_000_000, 0)
	p := &prober{now: func() time.Time { return now }, write: func(_ context.Context, thorough bool) error {
		seen = append(seen, thorough)
		return fail
	}}
	ask := func() { _ = p.writable(t.Context()) }
	ask()
	p.reportFailure()
	now = now.Add(2 * time.Second)
	fail = errors.New("full")
	ask()
	now = now.Add(2 * time.Second)
	fail = nil
	ask()
	now = now.Add(time.Minute)
	ask()
	if want := []bool{false, true, true, false}; !slices.Equal(seen, want) {
		t.Errorf("%v, not %v", seen, want)
	}
}
