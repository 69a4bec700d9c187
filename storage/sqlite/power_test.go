package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// After a power failure all that was acknowledged is there, and nothing in part. Some steps make a
// checkpoint.
func TestPowerFailure(t *testing.T) {
	vfs := faultvfs.Install()
	t.Cleanup(func() { durablefile.Watch.Store(nil) })
	for seed := range testenv.Rounds[uint64](t, 2, 50) {
		storagetest.RunPowerFailure(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			db, err := Open(tb.Context(), filepath.Join(dir, "new", "test.sqlite"), Config{})
			if err != nil {
				tb.Fatal(err)
			}
			db.checkpoints.set(5, 20)
			return db.Store(), db.Close
		}}, seed, func(changing func(), flushed func(string)) {
			vfs.Set(func() error { changing(); return nil })
			vfs.Watch(flushed)
			durablefile.Watch.Store(&flushed)
		})
	}
}
