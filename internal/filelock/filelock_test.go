package filelock_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/filelock"
)

func TestLocks(t *testing.T) {
	if !filelock.Works {
		t.Skip("no locks here")
	}
	path := filepath.Join(t.TempDir(), "lock")
	one, err := filelock.Try(path, filelock.Shared)
	if err != nil {
		t.Fatal(err)
	}
	two, err := filelock.Try(path, filelock.Shared)
	if err != nil {
		t.Fatalf("two that share: %v", err)
	}
	if _, err := filelock.Try(path, filelock.Exclusive); !errors.Is(err, filelock.ErrLocked) {
		t.Errorf("alone beside two: %v", err)
	}
	one.Close()
	two.Close()
	alone, err := filelock.Try(path, filelock.Exclusive)
	if err != nil {
		t.Fatalf("alone: %v", err)
	}
	if _, err := filelock.Try(path, filelock.Shared); !errors.Is(err, filelock.ErrLocked) {
		t.Errorf("beside one that is alone: %v", err)
	}
	got := make(chan error)
	go func() {
		f, err := filelock.Wait(path, filelock.Exclusive)
		if err == nil {
			err = f.Close()
		}
		got <- err
	}()
	alone.Close()
	if err := <-got; err != nil {
		t.Errorf("waiting: %v", err)
	}
	if _, err := filelock.Try(filepath.Join(path, "below a file"), filelock.Shared); err == nil {
		t.Error("a file below a file")
	}
}
