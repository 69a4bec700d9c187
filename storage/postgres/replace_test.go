//go:build unix

package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
)

// An import of which the database has lost a batch, or to which another node has added records, as
// after a failover, does not become a repository.
func TestReplaceAfterFailover(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	db := open(t, url, dir, postgres.Config{})
	defer db.Close()
	set := fmt.Sprintf("(SELECT max(records) FROM %s.loose)", schema(t, url, dir))
	for name, sql := range map[string]string{
		"nothing is lost":       "",
		"a batch is lost":       "DELETE FROM %[1]s.record WHERE set = %[2]s AND path < 'a/01000'",
		"there are others":      "INSERT INTO %[1]s.record SELECT set, path || 'x', cid, rev, data FROM %[1]s.record WHERE set = %[2]s AND path < 'a/00003'",
		"the whole set is gone": "DELETE FROM %[1]s.loose WHERE records = %[2]s",
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte{0xa0}
			c := dag.Sum(dag.CBOR, data)
			complete := errors.New("it is complete")
			_, err := db.Store().Repos.Replace(t.Context(), didOf(0), func(yield func(storage.RecordChange, error) bool) {
				for i := range 2500 {
					if i == 2400 && sql != "" { // the first 2000 are in the database
						exec(t, url, fmt.Sprintf(sql, schema(t, url, dir), set))
					}
					if !yield(storage.RecordChange{Path: fmt.Sprintf("a/%05d", i), CID: c, Data: data}, nil) {
						return
					}
				}
			}, func() (*storage.Change, error) { return nil, complete })
			if sql == "" && !errors.Is(err, complete) || sql != "" && !errors.Is(err, storage.ErrConflict) {
				t.Error(err)
			}
		})
	}
}
