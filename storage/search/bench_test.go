package search_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage/search"
)

// size reads a number from the environment.
func size(b *testing.B, env string, normal int) int {
	s := os.Getenv(env)
	if s == "" {
		return normal
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		b.Fatal(env, err)
	}
	return n
}

// fill puts documents into a new index, and reports the time for one.
func fill(b *testing.B, x *search.Index, n int, doc func(i int) search.Doc) *sql.DB {
	b.Helper()
	var db *sql.DB
	if x.Dialect == search.Postgres {
		db = openPostgres(b)
		x.Name = fmt.Sprintf("t%d", count.Add(1))
		if x.PGVector {
			needPGVector(b, db, *x)
		}
	} else {
		var err error
		if db, err = open(filepath.Join(b.TempDir(), "db")); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { db.Close() })
	}
	create(b, db, x)
	start := time.Now()
	for i := 0; i < n; {
		do(b, db, func(tx *sql.Tx) error {
			for end := min(n, i+10000); i < end; i++ {
				if err := x.Put(context.Background(), tx, doc(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	b.Logf("%d documents, %v each", n, time.Since(start)/time.Duration(n))
	return db
}

// measure searches, and reports the median, and the mean of the processor time: what it would take
// where nothing else runs, at most.
func measure(b *testing.B, db *sql.DB, x *search.Index, query func(i int) search.Query) {
	b.Helper()
	var all []time.Duration
	hits := 0
	used := processor()
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		found, err := x.Search(context.Background(), db, query(i))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(start))
		hits += len(found)
	}
	b.ReportMetric(float64((processor()-used).Microseconds())/1000/float64(len(all)), "cpu-ms/op")
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(all[len(all)*95/100].Microseconds())/1000, "p95-ms")
	b.ReportMetric(float64(hits)/float64(len(all)), "hits/op")
}

// BenchmarkText searches posts of some 12 words, whose frequencies fall as those of languages do,
// for words of a rank in them. PDSKIT_SEARCH_POSTS is how many posts there are. See README.md for
// the last table.
func BenchmarkText(b *testing.B) {
	n := size(b, "PDSKIT_SEARCH_POSTS", 20000)
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.07, 5, 200000)
	x := &search.Index{}
	db := fill(b, x, n, func(i int) search.Doc {
		words := make([]string, 4+r.IntN(17))
		for j := range words {
			words[j] = fmt.Sprint("w", zipf.Uint64())
		}
		return search.Doc{ID: fmt.Sprint("at://did:plc:", i), Text: strings.Join(words, " "), Meta: map[string]string{"author": fmt.Sprint(i % 1000)}}
	})
	// The words that users type: as often as posts have them, but for the 100 most frequent ones.
	typed := func() string {
		for {
			if w := zipf.Uint64(); w >= 100 {
				return fmt.Sprint("w", w)
			}
		}
	}
	b.Run("one-word", func(b *testing.B) {
		measure(b, db, x, func(int) search.Query { return search.Query{Text: typed()} })
	})
	b.Run("two-words", func(b *testing.B) {
		measure(b, db, x, func(int) search.Query { return search.Query{Text: typed() + " " + typed()} })
	})
	b.Run("any-of-three", func(b *testing.B) {
		measure(b, db, x, func(int) search.Query {
			return search.Query{Text: typed() + " " + typed() + " " + typed(), Any: true}
		})
	})
	b.Run("author", func(b *testing.B) {
		measure(b, db, x, func(i int) search.Query {
			return search.Query{Text: typed(), Filter: []search.Condition{{Key: "author", In: []string{fmt.Sprint(i % 1000)}}}}
		})
	})
	for _, text := range []string{"w0", "w10", "w30", "w100", "w1000", "w0 w10", "w0 w100", "w0 w1000"} {
		b.Run(text, func(b *testing.B) {
			measure(b, db, x, func(int) search.Query { return search.Query{Text: text} })
		})
	}
}

// BenchmarkVector searches vectors of 384 dimensions, in 50 clusters. PDSKIT_SEARCH_VECTORS is how
// many there are; PDSKIT_SEARCH_DATABASE=postgres or pgvector has another database than SQLite. See
// README.md for the last table.
func BenchmarkVector(b *testing.B) {
	n := size(b, "PDSKIT_SEARCH_VECTORS", 2000)
	const dim = 384
	r := rand.New(rand.NewPCG(1, 2))
	centres := make([][]float32, 50)
	for i := range centres {
		centres[i] = randomVector(r, dim)
	}
	vector := func(i int) []float32 {
		v := randomVector(r, dim)
		for j := range v {
			v[j] += centres[i%len(centres)][j]
		}
		return v
	}
	x := &search.Index{Dim: dim}
	switch os.Getenv("PDSKIT_SEARCH_DATABASE") {
	case "postgres":
		x.Dialect = search.Postgres
	case "pgvector":
		x.Dialect, x.PGVector = search.Postgres, true
	}
	db := fill(b, x, n, func(i int) search.Doc {
		return search.Doc{ID: fmt.Sprint("at://did:plc:", i), Vector: vector(i), Meta: map[string]string{"lang": []string{"en", "ja", "pt", "de"}[i%4]}}
	})
	b.Run("all", func(b *testing.B) {
		measure(b, db, x, func(i int) search.Query { return search.Query{Vector: vector(i)} })
	})
	b.Run("quarter", func(b *testing.B) {
		measure(b, db, x, func(i int) search.Query {
			return search.Query{Vector: vector(i), Filter: []search.Condition{{Key: "lang", In: []string{"ja"}}}}
		})
	})
}
