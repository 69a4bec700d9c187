package durable

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
)

// soloAlarms is a Solo with a clock of its own, which can be reopened.
type soloAlarms struct {
	*testing.T
	objects   Memory
	solo      *Solo
	now       time.Time
	called    []syntax.DID
	scheduled []time.Time
	steps     map[syntax.DID]int
}

func newSoloAlarms(t *testing.T) *soloAlarms {
	a := &soloAlarms{T: t, now: time.UnixMicro(1_000_000_000), steps: map[syntax.DID]int{}}
	a.reopen()
	return a
}

func (a *soloAlarms) reopen() {
	a.Helper()
	a.objects.Kill()
	var err error
	a.solo, err = OpenSolo(ctx, func(ctx context.Context) (Object, error) { return a.objects.Open(ctx, "solo", true) }, SoloConfig{
		Now: func() time.Time { return a.now },
		Schedule: func(at time.Time) error {
			a.scheduled = append(a.scheduled, at)
			return nil
		},
		Alarms: Alarms{AtOnce: 1, Call: func(_ context.Context, did syntax.DID) error {
			a.called = append(a.called, did)
			return nil
		}},
	})
	if err != nil {
		a.Fatal(err)
	}
}

func (a *soloAlarms) set(did syntax.DID, w storage.KVWrite) {
	a.Helper()
	a.steps[did]++
	changes.Apply(a, a.solo.Store(), did, a.steps[did], w)
}

// fires lets time pass, and checks what is called, how many alarms are set then, and when the next one
// is due (0: none).
func (a *soloAlarms) fires(after, next time.Duration, entries int, want ...syntax.DID) {
	a.Helper()
	a.now, a.called = a.now.Add(after), nil
	at, err := a.solo.FireAlarms(ctx)
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
	list, _, err := a.solo.pairs(Scan{From: keyAlarm, To: keyAlarmEnd}, 0)
	if err != nil || len(list) != entries {
		a.Errorf("%d entries in the index, %v; want %d", len(list), err, entries)
	}
}

// The index of a Solo has the alarms that are set, and no other.
func TestSoloAlarms(t *testing.T) {
	a := newSoloAlarms(t)
	a.fires(0, 0, 0)
	a.set(alice, SetAlarm(a.now.Add(time.Hour)))
	a.set(alice, SetAlarm(a.now.Add(2*time.Hour)))
	a.set(bob, SetAlarm(a.now.Add(time.Hour)))
	if n := len(a.scheduled); n != 3 {
		t.Errorf("the host heard of %d alarms", n)
	}
	a.fires(0, time.Hour, 2)
	a.reopen()
	a.fires(time.Hour, time.Hour, 1, bob)
	a.set(alice, SetAlarm(time.Time{}))
	a.fires(0, 0, 0)
	a.set(alice, SetAlarm(a.now))
	a.set(bob, SetAlarm(a.now.Add(time.Second)))
	a.fires(0, time.Second, 1, alice)
	if _, err := a.solo.Store().Repos.Delete(ctx, bob, nil); err != nil {
		t.Fatal(err)
	}
	a.fires(time.Hour, 0, 0)
	// One that expires, as a key, before it is due.
	w := SetAlarm(a.now.Add(2 * time.Hour))
	w.Expires = a.now.Add(time.Hour)
	a.set(alice, w)
	a.fires(2*time.Hour, 0, 0)
	// One in the past, and one before 1970.
	a.set(alice, SetAlarm(time.Unix(-5, 0)))
	a.fires(0, 0, 0, alice)
}

// The alarm of an account without a head is called once.
func TestAlarmOfHeadlessAccount(t *testing.T) {
	a := newSoloAlarms(t)
	set := storage.Change{KV: []storage.KVWrite{SetAlarm(a.now.Add(time.Hour))}}
	if _, err := a.solo.Store().Repos.Apply(ctx, alice, &set); err != nil {
		t.Fatal(err)
	}
	a.fires(0, time.Hour, 1)
	a.fires(time.Hour, 0, 0, alice)
	a.fires(time.Hour, 0, 0)
}

// What a call of an alarm sets anew counts for when the host has to come back.
func TestAlarmThatSetsItselfAgain(t *testing.T) {
	a := newSoloAlarms(t)
	a.set(alice, SetAlarm(a.now.Add(time.Minute)))
	a.set(bob, SetAlarm(a.now.Add(time.Hour)))
	a.solo.alarms.Call = func(_ context.Context, did syntax.DID) error {
		a.called = append(a.called, did)
		if len(a.called) == 1 && did == alice {
			a.set(alice, SetAlarm(a.now.Add(time.Second)))
		}
		return nil
	}
	a.fires(time.Minute, time.Second, 2, alice)
}

// An alarm that sets itself anew and fails, again and again, leaves nothing behind in memory.
func TestAlarmThatFailsAndSetsItselfAgain(t *testing.T) {
	a := newSoloAlarms(t)
	a.set(alice, SetAlarm(a.now.Add(time.Second)))
	a.solo.alarms.Call = func(_ context.Context, did syntax.DID) error {
		a.called = append(a.called, did)
		a.set(did, SetAlarm(a.now.Add(time.Second)))
		return errFault
	}
	for range 20 {
		a.fires(time.Second, time.Second, 1, alice)
	}
	if n := len(a.solo.alarms.retries); n > 1 {
		t.Errorf("%d calls wait to be made again, for one account", n)
	}
}

// If the host cannot set its own alarm, the account's is not set either.
func TestSoloAlarmThatIsNotScheduled(t *testing.T) {
	m := new(Memory)
	s, err := OpenSolo(ctx, func(ctx context.Context) (Object, error) { return m.Open(ctx, "solo", true) }, SoloConfig{
		Schedule: func(time.Time) error { return errFault },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Store().Repos.Apply(ctx, alice, change(alice, 1, SetAlarm(time.Now()))); !errors.Is(err, errFault) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := s.Store().Repos.Head(ctx, alice); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Head: %v", err)
	}
	changes.Apply(t, s.Store(), alice, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Store().Repos.Head(ctx, alice); !errors.Is(err, ErrClosed) {
		t.Errorf("Head after Close: %v", err)
	}
}

// FuzzSoloRows reads anything as each kind of row of a Solo: it is refused, or it is what is written
// again.
func FuzzSoloRows(f *testing.F) {
	f.Add(string(encodeEvent(&storage.Event{DID: alice, Kind: "#commit", Time: time.UnixMilli(1), Payload: []byte("p"), Weight: 3})))
	f.Add(string(logRow{7, 5}.encode()))
	f.Add(alarm{5, alice}.key())
	f.Add(keyLoose + ordered("did:web:a\x00b") + setName(3))
	f.Fuzz(func(t *testing.T, b string) {
		check := func(name string, err error, again func() string) {
			t.Helper()
			if err != nil {
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("%s: %v", name, err)
				}
			} else if out := again(); out != b {
				t.Errorf("%s: %q is written again as %q", name, b, out)
			}
		}
		e, err := decodeEvent(1, []byte(b), false)
		check("event", err, func() string { return string(encodeEvent(&e)) })
		if short, err := decodeEvent(1, []byte(b[:min(len(b), eventHead)]), true); err == nil && e.DID != "" && (short.DID != e.DID || !short.Time.Equal(e.Time)) {
			t.Error("the head of an event differs from the event")
		}
		log, err := decodeLog([]byte(b))
		check("log", err, func() string { return string(log.encode()) })
		if len(b) >= len(keyAlarm) && b[:len(keyAlarm)] == keyAlarm {
			a, err := parseAlarmKey(b)
			check("alarm", err, a.key)
		}
		if s, rest, ok := cutOrdered(b); ok && ordered(s)+rest != b {
			t.Errorf("%q is cut into %q and %q", b, s, rest)
		}
		if s, rest, ok := cutOrdered(ordered(b) + "rest"); !ok || s != b || rest != "rest" {
			t.Errorf("%q is cut into %q and %q, %v", ordered(b)+"rest", s, rest, ok)
		}
	})
}

// FuzzOrdered: the encoding keeps the order, and none begins with another.
func FuzzOrdered(f *testing.F) {
	f.Add("a", "a\x00")
	f.Add("a\x00\x01", "a\x00\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		if (a < b) != (ordered(a) < ordered(b)) {
			t.Errorf("%q and %q", a, b)
		}
		if a != b && len(ordered(a)) <= len(ordered(b)) && ordered(b)[:len(ordered(a))] == ordered(a) {
			t.Errorf("%q begins with %q", b, a)
		}
	})
}
