package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
)

func TestOpenCloseReopen(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "data", "pds.sqlite")
	for i := range 3 {
		db, err := sqlite.Open(ctx, path, sqlite.Config{})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Store().KV.Write(ctx, func(tx storage.KVTx) error {
			if i > 0 {
				if v, err := tx.Get(ctx, "k"); err != nil || int(v[0]) != i-1 {
					t.Errorf("value of an earlier run: %v %v", v, err)
				}
			}
			return tx.Set(ctx, "k", []byte{byte(i)}, time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Check(ctx); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
