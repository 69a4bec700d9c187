package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// Each case makes one contradiction in a database, which Problems must find; in one without there is
// none, though it has a loose set, a deleted repository and an account without a head.
func TestProblems(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT 1", ""},
		{"INSERT INTO record (repo, path, cid, rev, data) VALUES (99, 'a/b', x'00', 'rev', x'00')", "records of set 99"},
		{"INSERT INTO blob_ref (repo, blob, path, rev) VALUES (98, x'00', 'a/b', 'rev')", "references to blobs of set 98"},
		{"INSERT INTO kv (repo, key, value) VALUES (97, 'k', x'00')", "keys of account 97"},
		{"INSERT INTO loose (records, expires) SELECT iif(records = 0, id, records), 0 FROM repo WHERE did = 'did:web:replaced.example'", "2 owners"},
		{"DELETE FROM record WHERE path = 'com.example.note/00000001'", "no such record"},
		{"UPDATE repo SET rev = '' WHERE did = 'did:web:replaced.example'", "some of its parts"},
		{"UPDATE event SET weight = 0", "weight 0"},
		{"UPDATE event SET weight = 1000000", "weight 1000000"},
		{"UPDATE event SET weight = 2", "overlaps"},
		{"UPDATE sqlite_sequence SET seq = 5 WHERE name = 'event'", "newer than the newest number, 5"},
		{"DELETE FROM trimmed", "0 rows"},
		{"UPDATE trimmed SET seq = 1 << 60", "was deleted, but is newer"},
		{"INSERT INTO gone (did, seq) VALUES ('did:web:x.example', 1 << 60)", "beyond the newest number"},
	} {
		t.Run(strings.ReplaceAll(c.want, " ", "_"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "test.sqlite")
			db := openReplace(t, path, nil)
			if err := replaceWith(db, 0, 1, 3, 10, nil); err != nil {
				t.Fatal(err)
			}
			stop := errors.New("stop")
			_, err := db.Store().Repos.Replace(ctx, replaced, manyRecords(batchRecords+10, 10, nil), func() (*storage.Change, error) {
				events := []storage.Event{{DID: replaced, Kind: "#identity"}, {DID: replaced, Kind: "#identity"}}
				if _, err := db.Store().Repos.Apply(ctx, "did:web:other.example", &storage.Change{Events: events}); err != nil {
					t.Error(err)
				}
				// An overlap needs consecutive numbers.
				consecutive := "UPDATE event SET seq = (SELECT max(seq) FROM event) - 1 WHERE seq = (SELECT min(seq) FROM event);"
				if err := raw(t, path).Exec(consecutive + c.sql); err != nil {
					t.Error(err)
				}
				found := ""
				for p, err := range storage.Check(ctx, storage.Store{Repos: db.Store().Repos}, storage.CheckOptions{}) {
					if err != nil {
						t.Error(err)
					}
					found += p.String() + "\n"
				}
				if !strings.Contains(found, c.want) || c.want == "" && found != "" {
					t.Errorf("found %q, want %q", found, c.want)
				}
				return nil, stop
			})
			if !errors.Is(err, stop) {
				t.Error(err)
			}
		})
	}
}

// A page that was overwritten is a problem, not an error.
func TestProblemsOfPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sqlite")
	db := openReplace(t, path, nil)
	if err := replaceWith(db, 0, 1, 500, 1000, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte("damage"), info.Size()/2)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for p, err := range openReplace(t, path, nil).Store().Repos.(storage.Checker).Problems(ctx, storage.CheckOptions{}) {
		if err != nil {
			t.Error(err)
		}
		t.Log(p)
		n++
	}
	if n == 0 {
		t.Error("no problem was found")
	}
}
