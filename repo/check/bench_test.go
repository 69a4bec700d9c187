package check_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// go test -run '^$' -bench Run -benchtime 3x ./repo/check
func BenchmarkRun(b *testing.B) {
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "db"), sqlite.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	box, err := sealed.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		b.Fatal(err)
	}
	accounts := account.Open(repo.Config{Store: db.Store()}, box)
	for n, s := range []seed.Seed{{Records: 20_000, Blobs: 500}, {Records: 100, Blobs: 1}, {Records: 100, Blobs: 1}} {
		if _, err := s.Account(b.Context(), accounts, n); err != nil {
			b.Fatal(err)
		}
	}
	for name, opt := range map[string]check.Options{"all": {}, "no blobs": {Blobs: check.NoBlobs}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := accounts.Checker()
				c.Database = db.Check
				r, err := c.Run(b.Context(), opt)
				if err != nil || r.Found > 0 {
					b.Fatal(r, err)
				}
			}
		})
	}
}
