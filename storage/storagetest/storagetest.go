// Package storagetest defines a storage backend: it is a suite of tests for the contract of package
// storage. A backend's own tests need only
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
// and tests of its special features. A backend that has only some of the four stores runs RunRepos,
// RunKV or RunBlobs. README.md in this directory builds a backend, step by step.
//
// # What is checked
//
// Each subtest is one law. It makes histories of real, signed commits, and compares the backend's
// results with the contract. Besides tables of cases:
//
//   - History carries out long random sequences of all methods on the backend and on package
//     memory, the model. It compares every result and every state, and closes and reopens the
//     backend in between.
//   - Races run with as many handles on the same data as the backend allows.
//   - Kill copies the directory of a running backend, which is what a killed process leaves, and
//     opens the copy.
//   - CheckStore examines the whole state of a store: trees rebuilt from records, signatures,
//     inversion of every event, and data that nothing refers to. It is exported, for use on a
//     host's data too.
//
// Faults makes the methods of a store fail, for tests of code that uses stores.
//
// The suite itself is tested: for every law, its tests have a backend that breaks that law, and
// check that the suite notices.
//
// Tests do not depend on the speed of clocks. Some wait until a few milliseconds have passed. If a
// broken backend blocks, they give up after half a minute.
package storagetest

import (
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Backend describes a backend to test. The zero values of all fields but Open are the strictest.
type Backend struct {
	// Open opens the store that is kept in dir, at first an empty directory, and returns it with a
	// function that closes it. A backend without files may derive a name from dir. Failures end the
	// test.
	Open func(tb testing.TB, dir string) (s storage.Store, close func() error)
	// Volatile means that the content of the store is lost when it is closed.
	Volatile bool
	// Exclusive means that the store must be closed before it is opened again.
	Exclusive bool
	// Buffers means that Replace keeps all records in memory, as a store in memory does.
	Buffers bool
	// Optimistic means that a KV.Read fails with storage.ErrBusy if something that it has read is
	// written meanwhile, instead of continuing with the old state.
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
