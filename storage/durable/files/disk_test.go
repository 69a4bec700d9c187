package files

import (
	"testing"

	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// Calls fail in the objects' files, in the shared database, and in what is no
// database. With room for one object, objects are opened and closed meanwhile.
func TestDiskFaults(t *testing.T) {
	vfs := faultvfs.Install()
	var fault func() error
	storagetest.RunDiskFaults(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			db := openDB(tb, dir, durable.Config{MaxOpen: 1})
			db.objects.fault = func() error {
				if fault == nil {
					return nil
				}
				return fault()
			}
			return db.Store(), db.Close
		},
		Exclusive: true,
	}, func(f func() error) {
		fault = f
		vfs.Set(f)
	})
}
