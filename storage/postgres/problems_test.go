//go:build unix

package postgres_test

import (
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
)

// Each change makes one contradiction in a database, which Problems must find; before there is none,
// though a repository was deleted and an account has no head.
func TestProblems(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	db := open(t, url, dir, postgres.Config{})
	s, name := db.Store(), schema(t, url, dir)
	h := newHost(t, s)
	for i := range 3 {
		if _, err := h.Create(testContext, didOf(i), post("one", "text")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Repos.Delete(testContext, didOf(1), []storage.Event{{DID: didOf(1), Kind: "#account", Weight: 3}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repos.Apply(testContext, didOf(5), &storage.Change{KV: []storage.KVWrite{{Key: "k", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	problems := func() (found string) {
		for p, err := range storage.Check(testContext, s, storage.CheckOptions{}) {
			if err != nil {
				t.Error(err)
			}
			found += p.String() + "\n"
		}
		return found
	}
	if found := problems(); found != "" {
		t.Errorf("found in an undamaged database: %s", found)
	}
	for _, c := range []struct{ do, undo, want string }{
		{"INSERT INTO record VALUES (99999, 'a/b', '', '', '')", "DELETE FROM record WHERE set = 99999", "records of set 99999"},
		{"INSERT INTO blob_ref VALUES (99998, '', 'a/b', '')", "DELETE FROM blob_ref WHERE set = 99998", "references to blobs of set 99998"},
		{"INSERT INTO account_key VALUES (99997, 'k', '')", "DELETE FROM account_key WHERE repo = 99997", "keys of account 99997"},
		{"INSERT INTO loose SELECT max(records), 0, 1 FROM repo WHERE rev <> ''", "DELETE FROM loose", "2 owners"},
		{"INSERT INTO blob_ref SELECT max(records), '', 'a/b', '' FROM repo", "DELETE FROM blob_ref", "no such record"},
		{"UPDATE repo SET rev = 'x' WHERE rev = ''", "UPDATE repo SET rev = '' WHERE rev = 'x'", "some of its parts"},
		{"UPDATE event SET weight = -1 WHERE weight = 3", "UPDATE event SET weight = 3 WHERE weight = -1", "weight -1"},
		{"UPDATE event SET weight = 1000 WHERE weight = 3; INSERT INTO event SELECT seq - 5, did, kind, time, payload, 1 FROM event WHERE weight = 1000",
			"DELETE FROM event WHERE seq = (SELECT seq - 5 FROM event WHERE weight = 1000); UPDATE event SET weight = 3 WHERE weight = 1000", "overlaps"},
		{"UPDATE log SET last = last - 100000000", "UPDATE log SET last = last + 100000000", "newer than the newest number"},
		{"UPDATE trimmed SET hidden = 1::bigint << 60", "UPDATE trimmed SET hidden = 0", "count as deleted, beyond"},
		{"INSERT INTO gone VALUES ('did:web:x.example', 1::bigint << 60)", "DELETE FROM gone WHERE did = 'did:web:x.example'", "did:web:x.example: events up to"},
		{"INSERT INTO log (one, last) SELECT NULL, last FROM log WHERE false; DELETE FROM trimmed", "INSERT INTO trimmed (hidden, newest) VALUES (0, 0)", "1 and 0 rows"},
		{"UPDATE part SET after = after - 1 WHERE first = (SELECT max(first) FROM part)", "UPDATE part SET after = after + 1 WHERE first = (SELECT max(first) FROM part)", "and should span"},
		{"INSERT INTO part VALUES (1, 2)", "DELETE FROM part WHERE first = 1", "spans nothing"},
	} {
		run := func(sql string) {
			for part := range strings.SplitSeq(sql, ";") {
				exec(t, url, "SET search_path = "+name+"; "+part)
			}
		}
		run(c.do)
		if found := problems(); !strings.Contains(found, c.want) {
			t.Errorf("after %s: found %q, want %q", c.do, found, c.want)
		}
		run(c.undo)
		if found := problems(); found != "" {
			t.Errorf("after %s: found %q", c.undo, found)
		}
	}
}
