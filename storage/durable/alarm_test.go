package durable

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// alarmTest is a database with a clock of its own, which can be reopened.
type alarmTest struct {
	*testing.T
	cfg    Config
	db     *DB
	now    time.Time
	mu     sync.Mutex
	called []syntax.DID
	during func(syntax.DID) error // in the handler
	steps  map[syntax.DID]int
}

func newAlarmTest(t *testing.T) *alarmTest {
	a := &alarmTest{T: t, now: time.UnixMicro(1_000_000_000), steps: map[syntax.DID]int{}}
	a.cfg = Config{Shared: memory.New(memory.Config{}), Objects: new(Memory), Now: func() time.Time { return a.now }, MaxOpen: 1}
	a.cfg.Alarms.Call = func(_ context.Context, did syntax.DID) error {
		a.mu.Lock()
		a.called = append(a.called, did)
		a.mu.Unlock()
		if a.during != nil {
			return a.during(did)
		}
		return nil
	}
	a.reopen()
	return a
}

// reopen is a crash and a new start.
func (a *alarmTest) reopen() {
	a.cfg.Objects.(*Memory).Kill()
	a.db = newDB(a, a.cfg)
}

func (a *alarmTest) set(did syntax.DID, t time.Time) {
	a.Helper()
	a.steps[did]++
	apply(a, a.db, did, a.steps[did], SetAlarm(t))
}

// fires lets time pass and checks which alarms are called and when the next one is due
// (0: none).
func (a *alarmTest) fires(after, next time.Duration, want ...syntax.DID) {
	a.Helper()
	a.now = a.now.Add(after)
	a.called = nil
	at, err := a.db.FireAlarms(ctx)
	if err != nil {
		a.Fatal(err)
	}
	slices.Sort(a.called)
	if !slices.Equal(a.called, want) {
		a.Errorf("called %v, want %v", a.called, want)
	}
	if next == 0 && !at.IsZero() || next != 0 && !at.Equal(a.now.Add(next)) {
		a.Errorf("the next alarm is in %v, want %v", at.Sub(a.now), next)
	}
}

// index is how many entries the index has.
func (a *alarmTest) index(want int) {
	a.Helper()
	n := 0
	_ = a.cfg.Shared.KV.Read(ctx, func(r storage.KVReader) error {
		for range r.Keys(ctx, storage.Range{}) {
			n++
		}
		return nil
	})
	if n != want {
		a.Errorf("%d entries in the index, want %d", n, want)
	}
}

func TestAlarms(t *testing.T) {
	a := newAlarmTest(t)
	a.fires(0, 0)
	a.set(bob, a.now.Add(2*time.Hour))
	a.set(alice, a.now.Add(time.Hour))
	a.fires(0, time.Hour)
	a.fires(time.Hour, time.Hour, alice)
	a.fires(0, time.Hour)
	a.fires(3*time.Hour, 0, bob) // late
	a.fires(time.Hour, 0)
	a.index(0)
	// A step may set one in the past.
	a.set(alice, a.now.Add(-time.Hour))
	a.fires(0, 0, alice)
	a.index(0)
}

func TestAlarmSurvivesRestart(t *testing.T) {
	a := newAlarmTest(t)
	a.set(alice, a.now.Add(time.Hour))
	a.set(bob, a.now.Add(time.Hour))
	a.reopen()
	a.fires(0, time.Hour)
	a.fires(time.Hour, 0, alice, bob)
	a.reopen()
	a.fires(0, 0)
	a.index(0)
}

func TestAlarmMovedAndTakenBack(t *testing.T) {
	a := newAlarmTest(t)
	a.set(alice, a.now.Add(time.Hour))
	a.set(alice, a.now.Add(2*time.Hour)) // later
	a.fires(time.Hour, time.Hour)
	a.set(alice, a.now.Add(time.Minute)) // earlier
	a.fires(time.Minute, 59*time.Minute, alice)
	a.fires(time.Hour, 0)
	a.set(alice, a.now.Add(time.Hour))
	a.set(alice, time.Time{})
	a.fires(time.Hour, 0)
	a.set(bob, a.now.Add(time.Hour))
	if _, err := a.db.Store().Repos.Delete(ctx, bob, nil); err != nil {
		t.Fatal(err)
	}
	a.fires(time.Hour, 0)
	a.index(0)
}

func TestAlarmSetInItsHandler(t *testing.T) {
	a := newAlarmTest(t)
	a.set(alice, a.now.Add(time.Hour))
	a.during = func(did syntax.DID) error {
		a.set(did, a.now.Add(time.Minute))
		return nil
	}
	a.fires(time.Hour, time.Minute, alice)
	a.fires(time.Minute, time.Minute, alice)
	a.during = nil
	a.fires(time.Minute, 0, alice)
	a.fires(time.Hour, 0)
	a.index(0)
}

// A handler that fails is called again, at growing intervals, and after a restart
// at once; others are not held up.
func TestAlarmRetry(t *testing.T) {
	a := newAlarmTest(t)
	a.during = func(did syntax.DID) error {
		if did == alice {
			return errFault
		}
		return nil
	}
	a.set(alice, a.now.Add(time.Hour))
	a.fires(time.Hour, 2*time.Second, alice)
	a.set(bob, a.now.Add(time.Second))
	a.fires(0, time.Second)
	a.fires(time.Second, time.Second, bob)
	a.fires(time.Second, 4*time.Second, alice)
	a.fires(3*time.Second, time.Second)
	a.fires(time.Second, 8*time.Second, alice)
	a.reopen()
	a.fires(0, 2*time.Second, alice)
	a.during = nil
	a.fires(2*time.Second, 0, alice)
	a.index(0)
}

// If the process ends after the call, before the alarm is deleted, it is called
// once more.
func TestAlarmAtLeastOnce(t *testing.T) {
	a := newAlarmTest(t)
	a.set(alice, a.now.Add(time.Hour))
	objects := a.cfg.Objects.(*Memory)
	a.during = func(syntax.DID) error {
		objects.Fault = func(string) error { return errFault }
		return nil
	}
	a.fires(time.Hour, 2*time.Second, alice)
	a.during, objects.Fault = nil, nil
	a.reopen()
	a.fires(0, 0, alice)
	a.fires(time.Hour, 0)
	a.index(0)
}

func TestInvalidAlarm(t *testing.T) {
	db := newDB(t, Config{})
	_, err := db.Store().Repos.Apply(ctx, alice, change(alice, 1, storage.KVWrite{Key: AlarmKey, Value: []byte("soon")}))
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
	if _, err := db.Store().Repos.Head(ctx, alice); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the step was carried out: %v", err)
	}
}

// Run calls alarms that are set while it waits.
func TestRun(t *testing.T) {
	var mu sync.Mutex
	called := make(chan syntax.DID, 10)
	db := newDB(t, Config{Alarms: Alarms{Call: func(_ context.Context, did syntax.DID) error {
		mu.Lock()
		defer mu.Unlock()
		called <- did
		return nil
	}}})
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- db.Run(running) }()
	apply(t, db, alice, 1, SetAlarm(time.Now().Add(time.Hour)))
	apply(t, db, bob, 1, SetAlarm(time.Now().Add(10*time.Millisecond)))
	if did := <-called; did != bob {
		t.Errorf("called for %s", did)
	}
	apply(t, db, alice, 2, SetAlarm(time.Now()))
	if did := <-called; did != alice {
		t.Errorf("called for %s", did)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	if err := db.Store().Repos.View(ctx, alice, func(r storage.Reader) error {
		at, err := Alarm(ctx, r)
		if !at.IsZero() && time.Until(at) > 0 {
			t.Errorf("an alarm is left: %v", at)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// An alarm that failed while the clock was ahead does not wait for that time to come.
func TestAlarmOfAClockThatGoesBack(t *testing.T) {
	a := newAlarmTest(t)
	a.set(alice, a.now)
	a.during = func(syntax.DID) error { return errors.New("not yet") }
	a.fires(2*time.Hour, firstRetry, alice)
	a.during = nil
	a.fires(-2*time.Hour, 0, alice)
}

func TestConfigsThatLackSomething(t *testing.T) {
	good := Config{Shared: memory.New(memory.Config{}), Objects: new(Memory)}
	for name, change := range map[string]func(*Config){
		"Objects":  func(c *Config) { c.Objects = nil },
		"Repos":    func(c *Config) { c.Shared.Repos = nil },
		"Events":   func(c *Config) { c.Shared.Events = nil },
		"Blobs":    func(c *Config) { c.Shared.Blobs = nil },
		"KV":       func(c *Config) { c.Shared.KV = nil },
		"Objects ": func(c *Config) { *c = Config{} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(ctx, cfg); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// An alarm that is set to the same time again, after it was deleted and before its entry in the index
// is, is called again.
func TestAlarmIsSetToTheSameTimeAgain(t *testing.T) {
	a := newAlarmTest(t)
	at := a.now.Add(time.Second)
	a.set("did:web:a.test", at)
	forget, again := a.db.alarms.forget, true
	a.db.alarms.forget = func(ctx context.Context, al alarm) error {
		if again {
			again = false
			a.set("did:web:a.test", at)
		}
		return forget(ctx, al)
	}
	a.now = at
	if next, err := a.db.FireAlarms(ctx); err != nil || !next.Equal(at) {
		a.Errorf("the next alarm is at %v, want %v: %v", next, at, err)
	}
	a.index(1)
	a.fires(0, 0, "did:web:a.test")
	a.index(0)
}
