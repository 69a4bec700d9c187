package main

import (
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var backend = storagetest.Backend{
	Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := Open(tb.Context(), dir)
		if err != nil {
			tb.Fatal(err)
		}
		return db.Store(), db.Close
	},
	Exclusive: true,
}

func TestConformance(t *testing.T) { storagetest.Run(t, backend) }

// PDSKIT_CRASHES=200 go test -run TestCrash ./examples/bbolt
func TestCrash(t *testing.T) { storagetest.RunCrash(t, backend, 40) }
