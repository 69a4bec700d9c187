package sqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// After the death of the process, the -wal file has the last steps. SQLite takes damage in it for
// the end of what was written: steps from there on are gone, as a whole, and those
// before are as they were.
func TestDamagedWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sqlite")
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const steps = 50
	for i := range steps {
		if err := db.Store().KV.Write(ctx, func(tx storage.KVTx) error {
			v := fmt.Append(nil, i+1)
			return errors.Join(tx.Set(ctx, "first", v, time.Time{}), tx.Set(ctx, fmt.Sprint("step ", i+1), make([]byte, 5000), time.Time{}), tx.Set(ctx, "second", v, time.Time{}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	main, err1 := os.ReadFile(path)
	wal, err2 := os.ReadFile(path + "-wal")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if len(wal) < steps*5000 {
		t.Fatalf("the -wal file has %d bytes", len(wal))
	}
	rng := rand.New(rand.NewPCG(7, 8))
	lost := 0
	for round := range 60 {
		damaged := append([]byte{}, wal...)
		at := rng.IntN(len(wal))
		if round%4 == 0 {
			damaged = damaged[:at]
		} else {
			damaged[at] ^= 1 << rng.IntN(8)
		}
		copied := filepath.Join(t.TempDir(), "copy.sqlite")
		if err := errors.Join(os.WriteFile(copied, main, 0o600), os.WriteFile(copied+"-wal", damaged, 0o600)); err != nil {
			t.Fatal(err)
		}
		n, err := stepsOf(copied)
		if errors.Is(err, storage.ErrCorrupt) {
			continue
		} else if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if n < steps {
			lost++
		}
	}
	if lost == 0 {
		t.Error("no damage has any effect")
	}
}

// stepsOf returns how many steps of TestDamagedWAL a file has, all of each.
func stepsOf(path string) (n int, err error) {
	db, err := Open(ctx, path, Config{})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.Store().KV.Read(ctx, func(r storage.KVReader) error {
		first, err1 := r.Get(ctx, "first")
		second, err2 := r.Get(ctx, "second")
		if errors.Is(err1, storage.ErrNotFound) && errors.Is(err2, storage.ErrNotFound) {
			return nil
		}
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(first), &n); err != nil || string(first) != string(second) {
			return fmt.Errorf("half a step: %q and %q (%w)", first, second, err)
		}
		for i := range n {
			if v, err := r.Get(ctx, fmt.Sprint("step ", i+1)); err != nil || len(v) != 5000 {
				return fmt.Errorf("step %d of %d: %d bytes, %w", i+1, n, len(v), err)
			}
		}
		return nil
	})
	return n, errors.Join(err, db.Check(ctx))
}
