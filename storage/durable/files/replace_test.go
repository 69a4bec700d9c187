package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
)

// TestInterruptedReplaceIsSwept: what a process that died has staged is deleted when the directory
// is opened again, and an account that was not made leaves no file.
func TestInterruptedReplaceIsSwept(t *testing.T) {
	for _, records := range []int{0, 5} {
		dir := t.TempDir()
		db := openDB(t, dir, durable.Config{})
		from := 0
		if records > 0 {
			from = 1
			if err := changes.Replace(t, db.Store(), alice, 0, 1, records, nil); err != nil {
				t.Fatal(err)
			}
		}
		killed := filepath.Join(t.TempDir(), "killed")
		err := changes.Replace(t, db.Store(), alice, from, 2, 3000, func() {
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		copied := openDB(t, killed, durable.Config{})
		switch _, err := copied.Store().Repos.Head(ctx, alice); {
		case records == 0 && !errors.Is(err, storage.ErrNotFound):
			t.Errorf("the account is there: %v", err)
		case records > 0 && err != nil:
			t.Error(err)
		}
		closeDB(t, copied)
		got, want := keysOf(t, filepath.Join(killed, "objects")), 0
		if records > 0 {
			want = 2*records + 2 // and state and outbox
		}
		if got != want {
			t.Errorf("%d keys, want %d", got, want)
		}
	}
}

// keysOf counts the keys of alice's object; one that has no file has none.
func keysOf(t *testing.T, dir string) (n int) {
	t.Helper()
	objects, err := OpenObjects(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	o, err := objects.Open(ctx, alice, false)
	if errors.Is(err, storage.ErrNotFound) {
		return 0
	} else if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := o.Scan(durable.Scan{MaxValue: durable.KeysOnly}, func(string, []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Error("a file without keys is left")
	}
	return n
}
