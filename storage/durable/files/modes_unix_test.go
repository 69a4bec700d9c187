//go:build unix

package files

import (
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
)

// Only the owner can read what is kept, whatever the umask.
func TestModesOfFiles(t *testing.T) {
	testenv.Umask(t, 0)
	dir := t.TempDir()
	db := openDB(t, dir, durable.Config{MaxOpen: 1})
	defer db.Close()
	for n := range 3 {
		changes.Apply(t, db.Store(), alice, n+1)
		changes.Apply(t, db.Store(), bob, n+1)
	}
	if n := testenv.Private(t, dir); n < 6 {
		t.Errorf("only %d files", n)
	}
}
