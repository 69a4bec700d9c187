package search_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/storage/search"
)

// TestSnapshot: a transaction that reads sees one state of rows, words, vectors and metadata,
// whatever is committed beside it.
func TestSnapshot(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		x.Dim = 2
		create(t, db, &x)
		put(t, db, &x, search.Doc{ID: "a", Text: "old", Vector: []float32{1, 0}, Meta: map[string]string{"v": "1"}},
			search.Doc{ID: "b", Text: "old", Vector: []float32{1, 1}})
		opts := &sql.TxOptions{ReadOnly: true}
		if x.Dialect == search.Postgres {
			opts.Isolation = sql.LevelRepeatableRead
		}
		tx, err := db.BeginTx(context.Background(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if got := ids(t, tx, &x, search.Query{Text: "old"}); got != "a b" {
			t.Fatal(got)
		}
		put(t, db, &x, search.Doc{ID: "a", Text: "new", Vector: []float32{0, 1}, Meta: map[string]string{"v": "2"}}, search.Doc{ID: "c", Text: "old"})
		do(t, db, func(tx *sql.Tx) error { return x.Delete(context.Background(), tx, "b") })
		for q, want := range map[search.Querier][4]string{tx: {"a b", "", "a b", "a"}, db: {"c", "a", "a", ""}} {
			for i, query := range []search.Query{{Text: "old"}, {Text: "new"}, {Vector: []float32{1, 0}},
				{Vector: []float32{1, 0}, Filter: []search.Condition{{Key: "v", In: []string{"1"}}}}} {
				if got := ids(t, q, &x, query); got != want[i] {
					t.Errorf("%T, query %d: %q, want %q", q, i, got, want[i])
				}
			}
		}
		sound(t, tx, &x)
		tx.Rollback()
		sound(t, db, &x)
	})
}

// TestWritersAtOnce puts and deletes from several transactions at once, in the same blocks, with
// the same IDs.
func TestWritersAtOnce(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		x.Dim = 2
		create(t, db, &x)
		var group sync.WaitGroup
		failed := make([]error, 4)
		for w := range failed {
			group.Go(func() {
				for i := range 25 {
					id := fmt.Sprint((w*7 + i*3) % 20)
					failed[w] = errors.Join(failed[w], try(db, func(tx *sql.Tx) error {
						if i%5 == 4 {
							return x.Delete(context.Background(), tx, id)
						}
						return x.Put(context.Background(), tx, search.Doc{ID: id, Text: fmt.Sprint("w", w), Vector: []float32{1, float32(i)}, Meta: map[string]string{"w": fmt.Sprint(w)}})
					}))
				}
			})
		}
		group.Wait()
		if err := errors.Join(failed...); err != nil {
			t.Fatal(err)
		}
		sound(t, db, &x)
	})
}

// TestDamage changes the tables behind the index's back. Check says so, and Rebuild mends it.
func TestDamage(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		x.Dim = 2
		create(t, db, &x)
		name := "search"
		if x.Name != "" {
			name = x.Name
		}
		damage := []string{
			"UPDATE %s_doc SET text = 'other words' WHERE id = 'a'",
			"DELETE FROM %s_doc WHERE id = 'a'",
		}
		if !x.PGVector { // which has no copies
			damage = append(damage,
				"DELETE FROM %s_vector WHERE doc = (SELECT doc FROM %[1]s_doc WHERE id = 'a')",
				"DELETE FROM %s_block",
				"UPDATE %s_vector SET vector = (SELECT vector FROM %[1]s_vector WHERE doc = (SELECT doc FROM %[1]s_doc WHERE id = 'b'))")
		}
		if x.Dialect == search.SQLite {
			damage = append(damage, "DELETE FROM %s_text WHERE rowid = (SELECT doc FROM %[1]s_doc WHERE id = 'a')", "INSERT INTO %s_text (rowid, text) VALUES (77, 'ghost')")
		} else {
			damage = append(damage, "UPDATE %s_doc SET terms = '''ghost'':1'")
		}
		for _, statement := range damage {
			put(t, db, &x, search.Doc{ID: "a", Text: "some words", Vector: []float32{1, 0}, Meta: map[string]string{"k": "v"}}, search.Doc{ID: "b", Text: "more words", Vector: []float32{0, 1}})
			sound(t, db, &x)
			statement = fmt.Sprintf(statement, name)
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(statement, err)
			}
			problems, err := x.Check(context.Background(), db)
			if err != nil || len(problems) == 0 {
				t.Errorf("%s: %v %v", statement, problems, err)
			}
			do(t, db, func(tx *sql.Tx) error { return x.Rebuild(context.Background(), tx) })
			sound(t, db, &x)
		}
	})
}
