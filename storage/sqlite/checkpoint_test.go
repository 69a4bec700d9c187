package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// A busy writer does not keep the -wal file from starting anew, nor does a reader once it has gone.
func TestCheckpoints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sqlite")
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.checkpoints.set(20, 50)
	value := strings.Repeat("long", 10_000)
	write := func(n int) {
		for i := range n {
			setKey(t, db, fmt.Sprint("key", i), value)
		}
	}
	wait := func() { // so that the test does not depend on who is faster
		db.checkpoints.running.Wait()
	}
	// restarts says whether the file starts anew within a few steps.
	restarts := func() bool {
		for range 100 {
			before := db.checkpoints.wal
			write(1)
			wait()
			if db.checkpoints.wal < before {
				return true
			}
		}
		return false
	}
	for range 3 {
		if !restarts() {
			t.Fatalf("the -wal file has %d pages", db.checkpoints.wal)
		}
	}
	if err := db.Store().KV.Read(ctx, func(r storage.KVReader) error {
		if _, err := r.Get(ctx, "key0"); err != nil {
			return err
		}
		write(1) // the snapshot is an old one now
		if restarts() {
			t.Error("the -wal file has started anew under a reader")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !restarts() {
		t.Errorf("the -wal file has %d pages after the reader has gone", db.checkpoints.wal)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Error("Close leaves the -wal file")
	}
}
