package search_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/ext/fts5"

	"github.com/pdskit/pdskit/storage/search"
)

// Posts and their index change in one transaction.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "search")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := driver.Open("file:"+filepath.ToSlash(filepath.Join(dir, "posts.db")), fts5.Register)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	embedder := search.Hashing(64) // a model, in earnest
	index := &search.Index{Dim: embedder.Dim()}
	posts := []struct{ uri, author, text string }{
		{"at://alice/post/1", "alice", "The crème brûlée recipe from Lyon"},
		{"at://bob/post/1", "bob", "A recipe for disaster: deploying on Friday"},
		{"at://bob/post/2", "bob", "京都でケーキを食べた"},
	}

	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()
	if err := index.Create(ctx, tx); err != nil {
		log.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE post (uri TEXT PRIMARY KEY, text TEXT)"); err != nil {
		log.Fatal(err)
	}
	for _, p := range posts {
		if _, err := tx.ExecContext(ctx, "INSERT INTO post VALUES ($1, $2)", p.uri, p.text); err != nil {
			log.Fatal(err)
		}
		vectors, err := embedder.Embed(ctx, []string{p.text})
		if err != nil {
			log.Fatal(err)
		}
		err = index.Put(ctx, tx, search.Doc{ID: p.uri, Text: p.text, Vector: vectors[0], Meta: map[string]string{"author": p.author}})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}

	show := func(q search.Query) {
		hits, err := index.Search(ctx, db, q)
		if err != nil {
			log.Fatal(err)
		}
		for _, h := range hits {
			fmt.Print(h.ID, ":")
			for _, m := range h.Snippet.Marks {
				fmt.Printf(" %q", h.Snippet.Text[m[0]:m[1]])
			}
			fmt.Println()
		}
	}
	show(search.Query{Text: "BRULEE recipe"})
	show(search.Query{Text: "recipe", Filter: []search.Condition{{Key: "author", In: []string{"bob"}}}})
	show(search.Query{Text: "ケーキ"})
	vectors, err := embedder.Embed(ctx, []string{"a recipe for friday"})
	if err != nil {
		log.Fatal(err)
	}
	show(search.Query{Text: "recipe friday", Any: true, Vector: vectors[0], K: 1})
	// Output:
	// at://alice/post/1: "brûlée" "recipe"
	// at://bob/post/1: "recipe"
	// at://bob/post/2: "ケーキ"
	// at://bob/post/1: "recipe" "Friday"
}
