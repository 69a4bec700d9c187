package storagetest

import (
	"errors"
	"sync"
)

// ErrDied is what the calls of a store return to a process that has died: see [Death].
var ErrDied = errors.New("storagetest: the process has died")

// Death ends a process at one call of its stores: all calls after that fail, and have no effect.
// What the process did is then seen through the stores themselves. It is safe for concurrent use.
type Death struct {
	// At is the call, from 1. 0: it never dies.
	At int
	// After lets that call take effect, as when a process dies before it has the answer. Calls that
	// fail by themselves are not counted then.
	After bool

	mu    sync.Mutex
	calls int
	dead  bool
}

// Faults are those of the stores that the process uses.
func (d *Death) Faults() Faults {
	return Faults{
		Before: func(string) error { return d.call(!d.After) },
		After:  func(string) error { return d.call(d.After) },
	}
}

func (d *Death) call(counts bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if counts && !d.dead {
		d.calls++
		d.dead = d.calls == d.At
	}
	if d.dead {
		return ErrDied
	}
	return nil
}

// Died reports whether the process has come to that call.
func (d *Death) Died() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}
