package search_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/storage/search"
)

// victimEnv makes the test program a process that writes until it is killed; its value is the file.
const victimEnv = "PDSKIT_SEARCH_VICTIM"

var killIndex = &search.Index{Dim: 8}

// victim writes rows and their documents, a line to its output for each transaction.
func victim() {
	db, err := open(os.Getenv(victimEnv))
	for i := 0; err == nil; i++ {
		err = try(db, func(tx *sql.Tx) error {
			for range 1 + rand.IntN(6) {
				id, text := fmt.Sprint("row", rand.IntN(200)), fmt.Sprint("word", rand.IntN(9), " common ", i)
				if rand.IntN(3) == 0 {
					if _, err := tx.Exec("DELETE FROM post WHERE id = $1", id); err != nil {
						return err
					}
					if err := killIndex.Delete(context.Background(), tx, id); err != nil {
						return err
					}
					continue
				}
				if err := killIndex.Put(context.Background(), tx, search.Doc{ID: id, Text: text, Vector: []float32{1, 2, 3, 4, 5, 6, 7, float32(i)}}); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT OR REPLACE INTO post VALUES ($1, $2)", id, text); err != nil {
					return err
				}
			}
			return nil
		})
		fmt.Println(i)
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestKill kills a writer at random moments, again and again. The index agrees with the rows each
// time.
func TestKill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "db")
	db, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	create(t, db, killIndex)
	if _, err := db.Exec("CREATE TABLE post (id TEXT PRIMARY KEY, text TEXT)"); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimEnv+"="+file)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 1 + rand.IntN(40); n > 0 && lines.Scan(); n-- {
		}
		killed := cmd.Process.Kill()
		cmd.Wait()
		if killed != nil {
			t.Fatalf("the writer ended: %s", lines.Text())
		}
		sound(t, db, killIndex)
		rows, err := db.Query("SELECT id, text FROM post")
		if err != nil {
			t.Fatal(err)
		}
		want, got := make(map[string]string), make(map[string]string)
		for rows.Next() {
			var id, text string
			if err := rows.Scan(&id, &text); err != nil {
				t.Fatal(err)
			}
			want[id] = text
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for d, err := range killIndex.Docs(context.Background(), db) {
			if err != nil {
				t.Fatal(err)
			}
			got[d.ID] = d.Text
		}
		if !maps.Equal(want, got) {
			t.Fatalf("%d rows, %d documents, or others", len(want), len(got))
		}
		hits, err := killIndex.Search(context.Background(), db, search.Query{Text: "common", K: 1000})
		if err != nil || len(hits) != len(want) {
			t.Fatalf("%d rows, %d hits, %v", len(want), len(hits), err)
		}
	}
}
