package files

import (
	"testing"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// After a power failure all that was acknowledged is there, in the objects' files and in the log they
// share. With room for one object, objects are opened and closed meanwhile.
func TestPowerFailure(t *testing.T) {
	vfs := faultvfs.Install()
	t.Cleanup(func() { durablefile.Watch.Store(nil) })
	for seed := range uint64(2) {
		storagetest.RunPowerFailure(t, storagetest.Backend{
			Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
				db := openDB(tb, dir, durable.Config{MaxOpen: 1})
				return db.Store(), db.Close
			},
			Exclusive: true,
		}, seed, func(changing func(), flushed func(string)) {
			vfs.Set(func() error { changing(); return nil })
			vfs.Watch(flushed)
			durablefile.Watch.Store(&flushed)
		})
	}
}
