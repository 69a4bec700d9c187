package storagetest

import (
	"errors"
	"sync"
)

// ErrDied is the error of all calls to a store after the simulated death of the process: see
// [Death].
var ErrDied = errors.New("storagetest: the process has died")

// Death simulates the death of a process at one call of its stores: all later calls fail and have
// no effect. Examine what the process did through the original stores. It is safe for concurrent
// use.
type Death struct {
	// At is the number of the call, counted from 1. 0: the process never dies.
	At int
	// After lets that call take effect, as if the process died before it got the result. Calls that
	// fail by themselves are then not counted.
	After bool

	mu    sync.Mutex
	calls int
	dead  bool
}

// Faults returns the faults for the stores that the process uses.
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

// Died reports whether the process has reached that call.
func (d *Death) Died() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}
