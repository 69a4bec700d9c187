package account_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo/account/accounttest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

var _ = testenv.CheapPasswords()

func TestLaws(t *testing.T) {
	accounttest.Run(t, func(_ testing.TB, now func() time.Time) storage.Store {
		return memory.New(memory.Config{Now: now})
	})
}

// Over a database, what happens at once is only ordered by its transactions.
func TestLawsOverSQLite(t *testing.T) {
	testenv.NotOnJS(t, "SQLite has no files")
	open := func(tb testing.TB, now func() time.Time) storage.Store {
		db, err := sqlite.Open(tb.Context(), filepath.Join(tb.TempDir(), "test.sqlite"), sqlite.Config{Now: now})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := db.Close(); err != nil {
				tb.Error(err)
			}
		})
		return db.Store()
	}
	t.Run("Histories", func(t *testing.T) { accounttest.Histories(t, open, 2, 60) })
	t.Run("Meanwhile", func(t *testing.T) { accounttest.Meanwhile(t, open) })
	t.Run("AtOnce", func(t *testing.T) { accounttest.AtOnce(t, open) })
}
