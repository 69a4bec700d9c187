package storagetest

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/powerloss"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// RunPowerFailure checks a store after power failures. watch must make changing be called before
// each call that changes a file, and flushed after each flush of a file or directory, for all files
// that are opened after watch was called. Both may be called concurrently.
//
// The test carries out steps of all kinds. At some of the calls, and after each step, it makes a
// possible state of the files after a power failure: data that was not flushed is there, lost, or
// torn, in any order. A store opened on that state must have all steps that had returned. The
// running step must be there completely or not at all. seed selects the states; it is in the
// errors.
//
// It takes seconds, and is skipped with -short.
func RunPowerFailure(t *testing.T, b Backend, seed uint64, watch func(changing func(), flushed func(path string))) {
	if testing.Short() {
		t.Skip("opens hundreds of states")
	}
	powerFailure(t, b, seed, watch)
}

func powerFailure(tb testing.TB, b Backend, seed uint64, watch func(changing func(), flushed func(path string))) {
	p := &power{seed: seed, random: rand.New(rand.NewPCG(seed, 0))}
	plain := b.Open
	b.Open = func(tb testing.TB, dir string) (storage.Store, func() error) {
		if p.disk == nil { // what opening flushes counts too
			d, err := powerloss.New(dir)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { d.Close() })
			p.disk = d
		}
		return plain(tb, dir)
	}
	watch(p.changing, func(path string) {
		if err := p.disk.Synced(path); err != nil {
			tb.Errorf("read what was flushed: %v", err)
		}
	})
	defer watch(func() {}, func(string) {})
	p.suite = &disk{env: newEnv(tb, b, 30*time.Second), model: memory.New(memory.Config{}), inject: func(func() error) {}}
	p.suite.carry = p.step
	p.suite.run()
	if p.states < 50 || p.old+p.whole == 0 {
		tb.Errorf("%d states, %d of them the old one, %d the new one", p.states, p.old, p.whole)
	}
	tb.Logf("seed %d: %d states; during steps %d the old one, %d the new one", seed, p.states, p.old, p.whole)
}

type power struct {
	suite  *disk
	disk   *powerloss.Disk
	seed   uint64
	random *rand.Rand

	mu     sync.Mutex
	active bool
	during []string // directories with the states during the present step
	calls  int

	states, old, whole int
}

// perStep is how many states are made during one step, and after it.
const perStep = 4

// changing makes a state at some calls of a step.
func (p *power) changing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.active && len(p.during) < perStep && p.random.IntN(6) == 0 {
		p.during = append(p.during, p.crash())
	}
}

// crash returns a directory with a state of this moment.
func (p *power) crash() string {
	dir, err := os.MkdirTemp("", "power")
	if err == nil {
		err = p.disk.Crash(dir, p.random)
	}
	if err != nil {
		p.suite.Errorf("make a state: %v", err)
	}
	return dir
}

func (p *power) step(s diskStep) {
	d := p.suite
	before := d.state(d.model)
	d.ok(s.do(d.model), "%s, on the model", s.name)
	after := d.state(d.model)

	p.mu.Lock()
	p.active, p.during = true, nil
	p.mu.Unlock()
	d.ok(s.do(d.Store), "%s", s.name)
	p.mu.Lock()
	p.active = false
	during := p.during
	p.mu.Unlock()
	var done []string
	for range perStep {
		done = append(done, p.crash())
	}
	for i, dir := range during {
		p.check(dir, before, after, false, s.name, i)
	}
	for i, dir := range done {
		p.check(dir, before, after, true, s.name, i)
	}
	if d.Failed() {
		d.Fatalf("%s: given up", s.name)
	}
}

// check opens a store on a state.
func (p *power) check(dir string, before, after []string, done bool, step string, n int) {
	d := p.suite
	d.Helper()
	when := "during"
	if done {
		when = "after"
	}
	p.states++
	s, closeIt := d.backend.Open(d.TB, dir)
	got, err := d.readFrom(s)
	d.ok(err, "seed %d, power failure %d %s %q: read the whole store", p.seed, n, when, step)
	switch {
	case done:
		d.sameLines(got, after, "seed %d, power failure %d %s %q", p.seed, n, when, step)
	case slices.Equal(got, after):
		p.whole++
	default:
		p.old++
		d.sameLines(got, before, "seed %d, power failure %d %s %q", p.seed, n, when, step)
	}
	if err := CheckStore(context.Background(), s, Options{Key: keyOf}); err != nil {
		d.Errorf("seed %d, power failure %d %s %q: %v", p.seed, n, when, step, err)
	}
	d.ok(closeIt(), "close")
	d.ok(os.RemoveAll(dir), "remove the state")
}
