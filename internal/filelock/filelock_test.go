package filelock_test

import (
	"errors"
	"os"
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

// A file that is locked can be written, read, renamed and removed by who has no lock.
func TestLocksAreAdvisory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := filelock.Try(path, filelock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "content" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.Rename(path, path+"-2"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path + "-2"); err != nil {
		t.Error(err)
	}
}
