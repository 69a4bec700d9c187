package sqlite

import (
	"path/filepath"
	"strings"
	"testing"
)

// A record is found by its CID without a look through all records of the account: without an index
// the time would grow with the account.
func TestRecordsAreFoundByTheIndex(t *testing.T) {
	db, err := Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]string{
		recordByCID: "INDEX record_cid (repo=? AND cid=?)",
		recordColumns + "WHERE repo = ? AND path = ?":                "PRIMARY KEY (repo=? AND path=?)",
		"SELECT 1 FROM blob_ref WHERE repo = ? AND blob = ? LIMIT 1": "PRIMARY KEY (repo=? AND blob=?)",
	} {
		plan := ""
		if err := db.read(ctx, func(c *conn) (err error) {
			for s := range c.query(&err, "EXPLAIN QUERY PLAN "+query) {
				plan += s.ColumnText(3)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(plan, want) {
			t.Errorf("%s: %s, want %s", query, plan, want)
		}
	}
}
