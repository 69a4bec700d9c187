//go:build unix

package durable

import (
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
)

// Only the owner can read what is kept, whatever the umask.
func TestModesOfFiles(t *testing.T) {
	testenv.Umask(t, 0)
	dir := t.TempDir()
	db := openDB(t, dir, Config{MaxOpen: 1})
	defer db.Close()
	for n := range 3 {
		apply(t, db, alice, n+1)
		apply(t, db, bob, n+1)
	}
	if n := testenv.Private(t, dir); n < 6 {
		t.Errorf("only %d files", n)
	}
}
