package storagetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// RunDiskFaults checks a store when the disk is full or fails. inject must make fault be called
// before each call that changes a file, for all files that are opened after the first call of
// inject. An error of fault must become the error of that call. With nil, calls succeed again.
//
// The test carries out steps of all kinds while the first system call fails, then the second, and
// so on: with EIO only that call, with ENOSPC all later calls too, until there is room again. A
// step that failed must have left the old state or have taken full effect, both in the store and in
// a copy of the files at that moment. Reads must return correct data, and the error must not claim
// anything about the data. For ENOSPC, the error of a write must be storage.ErrFull. When there is
// room again, the same step must succeed.
//
// It takes seconds, and is skipped with -short.
func RunDiskFaults(t *testing.T, b Backend, inject func(fault func() error)) {
	if testing.Short() {
		t.Skip("fails each call to the system")
	}
	diskFaults(t, b, inject)
}

// diskStep is a step that can be tried again until it succeeds.
type diskStep struct {
	name string
	do   func(s storage.Store) error
}

func diskFaults(tb testing.TB, b Backend, inject func(fault func() error)) {
	for _, d := range []*disk{{errno: syscall.ENOSPC}, {errno: syscall.EIO, once: true}} {
		inject(nil)
		d.env, d.inject, d.model = newEnv(tb, b, 30*time.Second), inject, memory.New(memory.Config{})
		d.carry = d.step
		d.run()
		if d.faults < 20 {
			d.Errorf("only %d calls failed", d.faults)
		}
		d.Logf("%v: %d faults; after %d the old state, after %d the new one", d.errno, d.faults, d.old, d.whole)
	}
}

type disk struct {
	*env
	inject func(fault func() error)
	model  storage.Store
	errno  error
	once   bool           // one call fails; else it and all that follow
	about  []*account     // that steps are about
	carry  func(diskStep) // carries out one step

	faults, old, whole int
}

func (d *disk) run() {
	a, b := d.account(), d.account()
	d.about = []*account{a, b}
	text := func(i int) []edit {
		return []edit{note(i%7, fmt.Sprint("text ", i), blobInfos(3)[i%3]), note(fmt.Sprint("new", i), string(make([]byte, 3000)))}
	}
	d.carry(d.apply(b, "create another", b.change(notes(10)...)))
	d.carry(d.apply(a, "create", a.change(notes(3)...)))
	for i := range 2 {
		d.carry(d.apply(a, "records", a.change(text(i)...)))
		events := a.aside()
		events.Events = []storage.Event{a.event()}
		d.carry(d.apply(a, "events", events))
		d.carry(d.apply(b, "keys", b.aside(storage.KVWrite{Key: fmt.Sprint(i), Value: make([]byte, 5000)})))
		d.carry(diskStep{"host's keys", func(s storage.Store) error {
			return s.KV.Write(d.ctx, func(tx storage.KVTx) error {
				return errors.Join(tx.Set(d.ctx, fmt.Sprint("key ", i), make([]byte, 100), time.Time{}), tx.Set(d.ctx, "last", fmt.Append(nil, i), time.Time{}))
			})
		}})
	}
	records, st := a.replacement(notes(20)...)
	d.carry(diskStep{"replace", func(s storage.Store) error {
		_, err := s.Repos.Replace(d.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &st.Change, nil })
		return err
	}})
	a.took(st)
	d.carry(diskStep{"trim", func(s storage.Store) error { return s.Events.Trim(d.ctx, start.Add(6*time.Millisecond)) }})
	gone := b.gone()
	d.carry(diskStep{"delete", func(s storage.Store) error {
		_, err := s.Repos.Delete(d.ctx, b.did, []storage.Event{gone})
		return err
	}})
	d.carry(d.apply(a, "records after all", a.change(text(9)...)))
	d.reopen()
	d.sameLines(d.state(d.Store), d.state(d.model), "opened again")
	if err := CheckStore(d.ctx, d.Store, Options{Key: keyOf}); err != nil {
		d.Errorf("check of the whole store: %v", err)
	}
}

func (d *disk) apply(a *account, name string, s *step) diskStep {
	a.took(s)
	return diskStep{name, func(to storage.Store) error {
		_, err := to.Repos.Apply(d.ctx, a.did, &s.Change)
		return err
	}}
}

// state describes a store; an empty one is no error.
func (d *disk) state(s storage.Store) []string {
	d.Helper()
	lines, err := dump(d.ctx, storage.Store{Repos: s.Repos, Events: s.Events, KV: s.KV})
	d.ok(err, "read the whole store")
	return lines
}

// step carries out one step, while ever later calls fail, until it is done.
func (d *disk) step(s diskStep) {
	before := d.state(d.model)
	d.ok(s.do(d.model), "%s, on the model", s.name)
	after := d.state(d.model)
	for n := 1; ; n++ {
		what := fmt.Sprintf("%s, %v at call %d", s.name, d.errno, n)
		var calls atomic.Int64
		d.inject(func() error {
			if call := int(calls.Add(1)); call == n || call > n && !d.once {
				return d.errno
			}
			return nil
		})
		err := s.do(d.Store)
		failed := int(calls.Load()) >= n
		if failed && err != nil {
			d.honest(err, what, true)
			d.meanwhile(before, after, what)
		}
		d.inject(nil)
		got, dumpErr := d.read()
		d.ok(dumpErr, "%s: read afterwards", what)
		switch {
		case err == nil:
			d.sameLines(got, after, "%s: it succeeded, but", what)
		case !failed:
			d.Fatalf("%s: error %v, though no call has failed", what, err)
		}
		if failed {
			d.faults++
			d.killed(before, after, err == nil, n, what)
		}
		if err == nil {
			if failed {
				d.whole++
			}
			return
		}
		if slices.Equal(got, after) { // it took effect all the same
			d.whole++
			return
		}
		d.old++
		d.sameLines(got, before, "%s: it failed, and", what)
		if d.Failed() {
			d.Fatalf("%s: given up", s.name)
		}
	}
}

// read describes the store, after it has read the heads, as the contract asks of
// who wants to know what became of a step.
func (d *disk) read() (lines []string, err error) { return d.readFrom(d.Store) }

func (d *disk) readFrom(s storage.Store) (lines []string, err error) {
	for _, a := range d.about {
		if _, err := s.Repos.Head(d.ctx, a.did); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
	}
	return dump(d.ctx, storage.Store{Repos: s.Repos, Events: s.Events, KV: s.KV})
}

// honest checks that an error of the disk is not passed off as something else, and that a full one
// is called so when something could not be written.
func (d *disk) honest(err error, what string, write bool) {
	if write && errors.Is(d.errno, syscall.ENOSPC) && !errors.Is(err, storage.ErrFull) {
		d.Errorf("%s: error %v does not say that the disk is full", what, err)
	}
	for _, claim := range []error{storage.ErrNotFound, storage.ErrExists, storage.ErrConflict, storage.ErrCorrupt, storage.ErrTooLarge} {
		if errors.Is(err, claim) {
			d.Errorf("%s: error %v", what, err)
		}
	}
}

// meanwhile reads while the disk still fails: that may not be possible, but what is
// read is right.
func (d *disk) meanwhile(before, after []string, what string) {
	got, err := d.read()
	if err != nil {
		d.honest(err, what+", read meanwhile", false)
	} else if !slices.Equal(got, after) {
		d.sameLines(got, before, "%s: read meanwhile", what)
	}
}

// killed opens what the files are after a fault, as after the end of the process.
func (d *disk) killed(before, after []string, done bool, n int, what string) {
	if n%4 != 0 {
		return
	}
	dir := d.copyFiles()
	s, closeIt := d.backend.Open(d.TB, dir)
	got := d.state(s)
	if done || slices.Equal(got, after) {
		d.sameLines(got, after, "%s: killed afterwards", what)
	} else {
		d.sameLines(got, before, "%s: killed afterwards", what)
	}
	if err := CheckStore(context.Background(), s, Options{Key: keyOf}); err != nil {
		d.Errorf("%s: killed afterwards: %v", what, err)
	}
	d.ok(closeIt(), "close")
	d.ok(os.RemoveAll(dir), "remove the copy")
}
