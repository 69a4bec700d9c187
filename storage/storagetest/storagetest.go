// Package storagetest is the definition of a storage backend: a suite of tests
// that holds a backend to the contract of package storage. A backend's own tests
// need no more than
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
//			db, err := mydb.Open(dir)
//			if err != nil {
//				tb.Fatal(err)
//			}
//			return db.Store(), db.Close
//		}})
//	}
//
// and tests of what is special to it. A backend that has only some of the four
// stores runs RunRepos, RunKV or RunBlobs. The page README.md beside this file
// builds a backend, step by step.
//
// # What is checked
//
// Each subtest is one law. It makes histories of real, signed commits and
// compares what the backend says with what the contract does. Beyond the tables:
//
//   - History carries out long random sequences of all methods on the backend and on
//     package memory, which is the model, and compares every answer and every state,
//     closing and opening the backend on the way.
//   - Races are run with as many handles on the same data as the backend allows.
//   - Kill copies the directory of a running backend, which is what a killed
//     process leaves, and opens the copy.
//   - CheckStore examines the whole state of a store: trees rebuilt from records,
//     signatures, inversion of every event, and that nothing is kept that nothing
//     refers to. It is exported, for use on a host's data too.
//
// Faults makes the methods of a store fail, for tests of what is built on stores.
//
// The suite is itself proven: for every law, its tests have a backend that breaks
// that law, and see that the suite notices.
//
// Tests do not depend on the speed of clocks. Some wait for a few
// milliseconds to pass; where a broken backend would block, they give up after
// half a minute.
package storagetest

import (
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Backend says how to test a backend. The zero values of all but Open ask the most
// of it.
type Backend struct {
	// Open opens the store that is kept in dir, an empty directory at first, and
	// returns it with a function that closes it. What is not files may derive
	// a name of its own from dir. Failures end the test.
	Open func(tb testing.TB, dir string) (s storage.Store, close func() error)
	// Volatile says that the content of the store does not outlive close.
	Volatile bool
	// Exclusive says that the store must be closed before it is opened again.
	Exclusive bool
	// Buffers says that Replace keeps all records in memory, as a store in memory does anyway.
	Buffers bool
	// Optimistic says that a KV.Read, during which something is written that it has read, fails
	// with storage.ErrBusy, where it would go on with what was there before.
	Optimistic bool
}

// Run checks all of a backend.
func Run(t *testing.T, b Backend) {
	run(t, b, slices.Concat(allChecks(), moveChecks()))
}

func allChecks() []check {
	return slices.Concat(repoChecks(), eventChecks(), kvChecks(), blobChecks(), snapshotChecks(), historyChecks())
}

// RunRepos checks Repos and Events; the other parts of the store are not used.
func RunRepos(t *testing.T, b Backend) { run(t, b, slices.Concat(repoChecks(), eventChecks())) }

// RunKV checks KV alone.
func RunKV(t *testing.T, b Backend) { run(t, b, kvChecks()) }

// RunBlobs checks Blobs alone.
func RunBlobs(t *testing.T, b Backend) { run(t, b, blobChecks()) }

// check tests one law.
type check struct {
	name  string
	law   func(e *env)
	needs ability
}

// ability is what a check needs of a backend.
type ability uint8

const (
	persistence ability = 1 << iota
	sharing
	streaming
	snapshots
)

func (b Backend) abilities() (a ability) {
	if !b.Volatile {
		a |= persistence
	}
	if !b.Exclusive {
		a |= sharing
	}
	if !b.Buffers {
		a |= streaming
	}
	if !b.Optimistic {
		a |= snapshots
	}
	return a
}

func run(t *testing.T, b Backend, checks []check) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			if missing := c.needs &^ b.abilities(); missing&persistence != 0 {
				t.Skip("the backend is volatile")
			} else if missing&streaming != 0 {
				t.Skip("the backend keeps records in memory")
			} else if missing&snapshots != 0 {
				t.Skip("the backend has no snapshots of its keys")
			} else if missing != 0 {
				t.Skip("the backend is exclusive")
			}
			c.law(newEnv(t, b, 30*time.Second))
		})
	}
}
