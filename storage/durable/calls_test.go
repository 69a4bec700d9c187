package durable_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// fires is what calls alarms: a DB or a Solo.
type fires interface {
	Store() storage.Store
	FireAlarms(context.Context) (time.Time, error)
	Run(context.Context) error
	Close() error
}

// onBoth runs a test with a DB and a Solo, in a bubble in which time passes by itself.
func onBoth(t *testing.T, test func(t *testing.T, open func(durable.Alarms) fires)) {
	t.Run("DB", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			test(t, func(a durable.Alarms) fires {
				db, err := durable.New(t.Context(), durable.Config{Shared: memory.New(memory.Config{}), Objects: new(durable.Memory), Alarms: a})
				if err != nil {
					t.Fatal(err)
				}
				return db
			})
		})
	})
	t.Run("Solo", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			test(t, func(a durable.Alarms) fires {
				return soloIn(t, new(durable.Memory), durable.SoloConfig{Alarms: a})
			})
		})
	})
}

func account(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:a%02d.example", i)) }

func setAlarms(t *testing.T, s storage.Store, n int, at time.Time) {
	t.Helper()
	for i := range n {
		changes.Apply(t, s, account(i), 1, durable.SetAlarm(at))
	}
}

// calls notes what is called.
type calls struct {
	mu     sync.Mutex
	list   []syntax.DID
	failed []error
}

func (c *calls) add(did syntax.DID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, did)
}

func (c *calls) fail(_ syntax.DID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, err)
}

// take returns what was called since the last time, in order.
func (c *calls) take() []syntax.DID {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Sorted(slices.Values(c.list))
	c.list = nil
	return list
}

// Alarms are called side by side, up to the bound.
func TestAlarmsAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(durable.Alarms) fires) {
		var running, most atomic.Int64
		var all calls
		db := open(durable.Alarms{AtOnce: 3, Call: func(_ context.Context, did syntax.DID) error {
			all.add(did)
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			running.Add(-1)
			return nil
		}})
		defer db.Close()
		setAlarms(t, db.Store(), 10, time.Now())
		start := time.Now()
		if next, err := db.FireAlarms(t.Context()); err != nil || !next.IsZero() {
			t.Errorf("next %v, %v", next, err)
		}
		if n := len(all.take()); n != 10 || most.Load() != 3 {
			t.Errorf("%d alarms were called, %d at a time", n, most.Load())
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// One that does not end, in spite of its context, holds up neither the others nor the host, and is not
// called twice at a time.
func TestAlarmThatDoesNotEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(durable.Alarms) fires) {
		var all calls
		release := make(chan struct{})
		db := open(durable.Alarms{Timeout: 10 * time.Second, Failed: all.fail, Call: func(ctx context.Context, did syntax.DID) error {
			all.add(did)
			if did == account(0) {
				<-release
				return ctx.Err()
			}
			return nil
		}})
		setAlarms(t, db.Store(), 3, time.Now())
		start := time.Now()
		next, err := db.FireAlarms(t.Context())
		synctest.Wait() // the contexts of both have ended
		if took := time.Since(start); err != nil || took != 10*time.Second {
			t.Errorf("the host waited for %v, %v", took, err)
		}
		if got := all.take(); len(got) != 3 {
			t.Errorf("called %v", got)
		}
		if wait := time.Until(next); wait <= 0 || wait > 5*time.Second {
			t.Errorf("the next one is in %v", wait)
		}
		changes.Apply(t, db.Store(), account(1), 2, durable.SetAlarm(time.Now()))
		if _, err := db.FireAlarms(t.Context()); err != nil {
			t.Error(err)
		}
		if got := all.take(); !slices.Equal(got, []syntax.DID{account(1)}) {
			t.Errorf("beside one that runs, called %v", got)
		}
		close(release)
		synctest.Wait()
		if len(all.failed) != 1 || !errors.Is(all.failed[0], context.DeadlineExceeded) {
			t.Errorf("failed: %v", all.failed)
		}
		time.Sleep(2 * time.Second)
		if _, err := db.FireAlarms(t.Context()); err != nil {
			t.Error(err)
		}
		if got := all.take(); !slices.Equal(got, []syntax.DID{account(0)}) {
			t.Errorf("after it has failed, called %v", got)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Run calls alarms that become due while another one runs.
func TestRunBesideASlowAlarm(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(durable.Alarms) fires) {
		var all calls
		db := open(durable.Alarms{Timeout: time.Hour, Call: func(ctx context.Context, did syntax.DID) error {
			all.add(did)
			if did == account(0) {
				<-ctx.Done()
			}
			return ctx.Err()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- db.Run(ctx) }()
		setAlarms(t, db.Store(), 1, time.Now())
		synctest.Wait()
		for i := 1; i < 4; i++ {
			changes.Apply(t, db.Store(), account(i), 1, durable.SetAlarm(time.Now().Add(time.Minute)))
		}
		time.Sleep(time.Minute - time.Millisecond)
		if got := all.take(); !slices.Equal(got, []syntax.DID{account(0)}) {
			t.Errorf("called %v before the time", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if got := all.take(); len(got) != 3 {
			t.Errorf("called %v beside the slow one", got)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// One that panics, or ends its goroutine, is called again like one that fails.
func TestPanickingAlarm(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(durable.Alarms) fires) {
		var all calls
		bad := true
		db := open(durable.Alarms{Failed: all.fail, Call: func(_ context.Context, did syntax.DID) error {
			all.add(did)
			switch {
			case did == account(0) && bad:
				panic("of the alarm")
			case did == account(1) && bad:
				runtime.Goexit()
			}
			return nil
		}})
		defer db.Close()
		setAlarms(t, db.Store(), 4, time.Now())
		next, err := db.FireAlarms(t.Context())
		if err != nil || time.Until(next) != 2*time.Second {
			t.Errorf("the next one is in %v, %v", time.Until(next), err)
		}
		if got := all.take(); len(got) != 4 || len(all.failed) != 2 || !strings.Contains(fmt.Sprint(all.failed), "panicked: of the alarm") {
			t.Errorf("called %v, failed %v", got, all.failed)
		}
		bad = false
		time.Sleep(2 * time.Second)
		if next, err := db.FireAlarms(t.Context()); err != nil || !next.IsZero() {
			t.Errorf("next %v, %v", next, err)
		}
		if got := all.take(); !slices.Equal(got, []syntax.DID{account(0), account(1)}) {
			t.Errorf("called %v again", got)
		}
	})
}

// inBubble is how many goroutines the test has in its bubble. Those of the runtime and of other tests
// come and go.
func inBubble(t *testing.T) int {
	t.Helper()
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	own := regexp.MustCompile(`synctest bubble \d+`).Find(all) // the caller is the first
	if own == nil {
		t.Fatal("there is no bubble")
	}
	return len(regexp.MustCompile(string(own)+`\b`).FindAll(all, -1))
}

// TestNothingTicksAtRest: between calls of a method there are no goroutines, and Run without an alarm
// looks at nothing.
func TestNothingTicksAtRest(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(durable.Alarms) fires) {
		before := inBubble(t)
		db := open(durable.Alarms{})
		s := db.Store()
		setAlarms(t, s, 2, time.Now())
		if _, err := db.FireAlarms(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Repos.View(t.Context(), account(0), func(storage.Reader) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := changes.Replace(t, s, account(0), 1, 2, 10, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if after := inBubble(t); after > before {
			t.Errorf("%d goroutines at rest, %d before", after, before)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		shared := storagetest.Faults{Before: func(string) error {
			looks.Add(1)
			return nil
		}}.Wrap(memory.New(memory.Config{}))
		db, err := durable.New(t.Context(), durable.Config{Shared: shared, Objects: new(durable.Memory)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- db.Run(ctx) }()
		synctest.Wait()
		atRest := looks.Load()
		time.Sleep(1000 * time.Hour)
		if n := looks.Load() - atRest; n != 0 {
			t.Errorf("%d calls of the shared store while nothing is set", n)
		}
		cancel()
		<-ended
	})
}

// TestTimersHaveAPlace: only what calls alarms has timers.
func TestTimersHaveAPlace(t *testing.T) {
	list, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range list {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				switch name := fmt.Sprint(s.X, ".", s.Sel); name {
				case "time.NewTimer", "time.NewTicker", "time.After", "time.AfterFunc", "time.Tick", "time.Sleep", "context.WithTimeout", "context.WithDeadline":
					if seen++; f.Name() != "calls.go" {
						t.Errorf("%s has %s", f.Name(), name)
					}
				}
			}
			return true
		})
	}
	if seen == 0 {
		t.Error("no timers were found, not even those of alarms")
	}
}

// An alarm is announced, and an account marked, before the transaction that it is for.
func TestAnnouncedBefore(t *testing.T) {
	var order []string
	note := func(what string) func(string) error {
		return func(call string) error {
			order = append(order, what+call)
			return nil
		}
	}
	objects := &durable.Memory{Fault: func(call string) error {
		if call == "Set" || call == "Commit" {
			order = append(order, call)
		}
		return nil
	}}
	d := faulty{durable.NewDirectory(memory.New(memory.Config{})), note(""), never}
	db, err := durable.New(t.Context(), durable.Config{Directory: d, Objects: objects})
	if err != nil {
		t.Fatal(err)
	}
	changes.Apply(t, db.Store(), changes.Alice, 1, durable.SetAlarm(time.Now()))
	want := []string{"Entry", "Announce", "Set", "Commit", "Deliver"}
	if got := slices.Compact(order); !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	// If it is not announced, the alarm is not set.
	d.before = func(call string) error {
		if call == "Announce" {
			return errFault
		}
		return nil
	}
	if db, err = durable.New(t.Context(), durable.Config{Directory: d, Objects: new(durable.Memory)}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Store().Repos.Apply(t.Context(), changes.Bob, changes.Nth(changes.Bob, 1, durable.SetAlarm(time.Now()))); !errors.Is(err, errFault) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := db.Store().Repos.Head(t.Context(), changes.Bob); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Head: %v", err)
	}
}

// A host with a directory that is far away asks for one account's alarm.
func TestFireAlarmOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all calls
		d := faulty{durable.NewDirectory(memory.New(memory.Config{})), never, never}
		db, err := durable.New(t.Context(), durable.Config{Directory: d, Objects: new(durable.Memory), Alarms: durable.Alarms{Call: func(_ context.Context, did syntax.DID) error {
			all.add(did)
			return nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		setAlarms(t, db.Store(), 2, time.Now().Add(time.Minute))
		next := func() time.Duration {
			t.Helper()
			at, err := db.FireAlarm(t.Context(), account(1))
			if err != nil {
				t.Fatal(err)
			}
			if at.IsZero() {
				return -1
			}
			return time.Until(at)
		}
		if d := next(); d != time.Minute {
			t.Errorf("the next one is in %v", d)
		}
		time.Sleep(time.Minute)
		if d, got := next(), all.take(); d != -1 || !slices.Equal(got, []syntax.DID{account(1)}) {
			t.Errorf("called %v; the next one is in %v", got, d)
		}
		if at, err := db.FireAlarm(t.Context(), "did:web:nobody.example"); err != nil || !at.IsZero() {
			t.Errorf("of nobody: %v, %v", at, err)
		}
		if _, err := db.FireAlarms(t.Context()); err == nil {
			t.Error("FireAlarms without an index")
		}
	})
}
