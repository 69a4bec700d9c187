package search_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"

	"github.com/pdskit/pdskit/storage/search"
)

// TestQueryIsNoLanguage sends what FTS5, tsquery and SQL take for syntax.
func TestQueryIsNoLanguage(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		create(t, db, &x)
		put(t, db, &x,
			search.Doc{ID: "plain", Text: "alpha beta"},
			search.Doc{ID: "words", Text: "alpha AND NOT near or beta column text rowid"},
			search.Doc{ID: "signs", Text: `alpha "beta" 'x' \ (a:b) -- ; ^ * + {text}`},
			search.Doc{ID: "mail", Text: "write to foo-bar@example.com"},
			search.Doc{ID: "rab", Text: "bar foo"})
		for query, want := range map[string]string{
			`alpha NOT beta`:                    "words",
			`alpha OR nothing`:                  "",
			`alpha" OR "bar`:                    "",
			`"alpha`:                            "plain signs words",
			`alpha*`:                            "plain signs words",
			`alph*`:                             "",
			`^beta`:                             "plain signs words",
			`text:beta`:                         "",
			`{text}:beta`:                       "",
			`text`:                              "signs words",
			`-alpha`:                            "plain signs words",
			`NEAR(alpha beta, 5)`:               "",
			`alpha + beta`:                      "plain signs words",
			`'; DROP TABLE search_doc; --`:      "",
			`x' | 'alpha`:                       "signs",
			`alpha & !beta`:                     "plain signs words",
			`alpha:*`:                           "plain signs words",
			`alpha <-> beta`:                    "plain signs words",
			`\`:                                 "",
			`"" ''`:                             "",
			`*`:                                 "",
			`( ( (`:                             "",
			"\u200b \ufeff \u202e":              "",
			`foo-bar`:                           "mail", // not "bar foo": one phrase
			`foo bar`:                           "mail rab",
			`@example.com`:                      "mail",
			"\U0001f600":                        "",
			strings.Repeat("\u0301", 900) + "a": "signs",
		} {
			hits, err := x.Search(context.Background(), db, search.Query{Text: query})
			if err != nil {
				t.Errorf("%q: %v", query, err)
				continue
			}
			got := make(map[string]bool)
			for _, h := range hits {
				got[h.ID] = true
			}
			for _, id := range strings.Fields(want) {
				if !got[id] {
					t.Errorf("%q does not find %s", query, id)
				}
			}
			if len(got) != len(strings.Fields(want)) {
				t.Errorf("%q: %v, want %s", query, got, want)
			}
		}
		// The same in conditions and IDs.
		for _, s := range []string{`' OR 1=1 --`, `$1`, `%`, `\`} {
			if got := ids(t, db, &x, search.Query{Text: "alpha", Filter: []search.Condition{{Key: s, In: []string{s}, From: s, Before: s + "x"}}}); got != "" {
				t.Errorf("a filter by %q finds %s", s, got)
			}
			put(t, db, &x, search.Doc{ID: s, Text: "gamma", Meta: map[string]string{s: s}})
			if got := ids(t, db, &x, search.Query{Text: "gamma", Filter: []search.Condition{{Key: s, In: []string{s}}}}); got != s {
				t.Errorf("a filter by %q finds %q", s, got)
			}
			do(t, db, func(tx *sql.Tx) error { return x.Delete(context.Background(), tx, s) })
		}
		sound(t, db, &x)
	})
}

// TestRefused gives what is over a limit, or cannot be.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		x.Dim = 4
		create(t, db, &x)
		good := []float32{1, 2, 3, 4}
		nan, inf := float32(math.NaN()), float32(math.Inf(-1))
		many := make(map[string]string)
		for i := range search.MaxMeta + 1 {
			many[fmt.Sprint(i)] = ""
		}
		for name, c := range map[string]struct {
			doc  search.Doc
			want error
		}{
			"no ID":         {search.Doc{}, search.ErrID},
			"long ID":       {search.Doc{ID: strings.Repeat("x", search.MaxID+1)}, search.ErrID},
			"NUL in ID":     {search.Doc{ID: "a\x00"}, search.ErrID},
			"bytes in ID":   {search.Doc{ID: "\xff"}, search.ErrID},
			"huge text":     {search.Doc{ID: "a", Text: strings.Repeat("x", search.MaxText+1)}, search.ErrText},
			"NUL in text":   {search.Doc{ID: "a", Text: "b\x00c"}, search.ErrText},
			"bytes in text": {search.Doc{ID: "a", Text: "b\xc0\xafc"}, search.ErrText},
			"surrogate":     {search.Doc{ID: "a", Text: "b\xed\xa0\x80c"}, search.ErrText},
			"NaN":           {search.Doc{ID: "a", Vector: []float32{1, nan, 1, 1}}, search.ErrVector},
			"Inf":           {search.Doc{ID: "a", Vector: []float32{1, 1, 1, inf}}, search.ErrVector},
			"zero":          {search.Doc{ID: "a", Vector: make([]float32, 4)}, search.ErrVector},
			"short":         {search.Doc{ID: "a", Vector: good[:3]}, search.ErrVector},
			"empty":         {search.Doc{ID: "a", Vector: good[:0]}, search.ErrVector},
			"long":          {search.Doc{ID: "a", Vector: append(good, 5)}, search.ErrVector},
			"much metadata": {search.Doc{ID: "a", Meta: many}, search.ErrMeta},
			"NUL in a key":  {search.Doc{ID: "a", Meta: map[string]string{"\x00": ""}}, search.ErrMeta},
			"long value":    {search.Doc{ID: "a", Meta: map[string]string{"a": strings.Repeat("x", search.MaxValue+1)}}, search.ErrMeta},
		} {
			do(t, db, func(tx *sql.Tx) error {
				if err := x.Put(context.Background(), tx, c.doc); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", name, err, c.want)
				}
				return nil
			})
		}
		for name, c := range map[string]struct {
			query search.Query
			want  error
		}{
			"nothing":         {search.Query{}, search.ErrQuery},
			"huge":            {search.Query{Text: strings.Repeat("x", search.MaxQuery+1)}, search.ErrQuery},
			"many terms":      {search.Query{Text: strings.Repeat("x ", search.MaxTerms+1)}, search.ErrQuery},
			"long phrase":     {search.Query{Text: strings.Repeat("x-", search.MaxTerms+1)}, search.ErrQuery},
			"long dense":      {search.Query{Text: strings.Repeat("京", search.MaxTerms+2)}, search.ErrQuery},
			"NUL":             {search.Query{Text: "a\x00b"}, search.ErrQuery},
			"bytes":           {search.Query{Text: "\xfe"}, search.ErrQuery},
			"negative K":      {search.Query{Text: "a", K: -1}, search.ErrQuery},
			"great K":         {search.Query{Text: "a", K: search.MaxK + 1}, search.ErrQuery},
			"NaN":             {search.Query{Vector: []float32{nan, 1, 1, 1}}, search.ErrVector},
			"zero":            {search.Query{Vector: make([]float32, 4)}, search.ErrVector},
			"wrong dimension": {search.Query{Vector: good[:2]}, search.ErrVector},
			"many conditions": {search.Query{Text: "a", Filter: make([]search.Condition, search.MaxFilters+1)}, search.ErrQuery},
			"many values":     {search.Query{Text: "a", Filter: []search.Condition{{In: make([]string, search.MaxIn+1)}}}, search.ErrQuery},
			"NUL in filter":   {search.Query{Text: "a", Filter: []search.Condition{{Key: "\x00"}}}, search.ErrQuery},
		} {
			if _, err := x.Search(context.Background(), db, c.query); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if got := ids(t, db, &x, search.Query{Text: "a", Vector: good, Any: true}); got != "" {
			t.Errorf("something was put: %s", got)
		}
		// Extremes that are fine.
		huge := strings.Repeat("x ", search.MaxText/2)
		put(t, db, &x,
			search.Doc{ID: "huge", Text: huge, Vector: []float32{math.MaxFloat32, math.MaxFloat32, 0, 0}},
			search.Doc{ID: "grown", Text: strings.Repeat("ﷺ", search.MaxText/3), Vector: []float32{0, math.SmallestNonzeroFloat32, 0, 0}},
			search.Doc{ID: "marks", Text: "e" + strings.Repeat("\u0903", search.MaxText/3-1)},
			search.Doc{ID: "word", Text: strings.Repeat("w", search.MaxText)},
			search.Doc{ID: strings.Repeat("i", search.MaxID), Vector: []float32{0, 0, -1, 0}})
		if got := ids(t, db, &x, search.Query{Text: strings.Repeat("w", 1000)}); got != "word" {
			t.Errorf("a long word finds %q", got)
		}
		if got := ids(t, db, &x, search.Query{Vector: []float32{0, 1, 0, 0}, K: 2}); got != "grown huge" {
			t.Errorf("extreme vectors: %q", got)
		}
		sound(t, db, &x)
	})
}

// TestOtherSettings opens an index as one of another kind.
func TestOtherSettings(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		x.Dim = 3
		create(t, db, &x)
		create(t, db, &x)
		changes := []func(*search.Index){
			func(x *search.Index) { x.Dim = 4 }, func(x *search.Index) { x.Grams = true },
		}
		if x.Dialect == search.Postgres {
			changes = append(changes, func(x *search.Index) { x.PGVector = !x.PGVector })
		}
		for _, change := range changes {
			y := x
			change(&y)
			if err := try(db, func(tx *sql.Tx) error { return y.Create(context.Background(), tx) }); !errors.Is(err, search.ErrSchema) {
				t.Errorf("%+v: %v", y, err)
			}
		}
		if err := try(db, func(tx *sql.Tx) error { return (&search.Index{PGVector: true}).Create(context.Background(), tx) }); !errors.Is(err, search.ErrIndex) {
			t.Errorf("pgvector in SQLite: %v", err)
		}
		for _, name := range []string{"A", "a b", "1a", `a"`, strings.Repeat("a", 33), "é"} {
			y := x
			y.Name = name
			if err := try(db, func(tx *sql.Tx) error { return y.Create(context.Background(), tx) }); !errors.Is(err, search.ErrIndex) {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

// TestWithoutFTS5 opens a connection that nobody registered FTS5 on.
func TestWithoutFTS5(t *testing.T) {
	db, err := driver.Open("file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "db")))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := try(db, func(tx *sql.Tx) error { return (&search.Index{}).Create(context.Background(), tx) }); !errors.Is(err, search.ErrNoFTS5) {
		t.Fatal(err)
	}
}

// TestEnded searches with a context that has ended.
func TestEnded(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		create(t, db, &x)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := x.Search(ctx, db, search.Query{Text: "a"}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

// TestDamagedBlock: a block of vectors that is none ends a search with an error, wherever it is.
func TestDamagedBlock(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		if x.PGVector {
			t.Skip("it has no blocks")
		}
		x.Dim = 3
		create(t, db, &x)
		for i := range 700 { // 11 blocks
			put(t, db, &x, search.Doc{ID: fmt.Sprint(i), Vector: []float32{1, float32(i), 2}})
		}
		query := search.Query{Vector: []float32{1, 1, 1}}
		for _, block := range []int{10, 5, 0} {
			name := cmp.Or(x.Name, "search")
			if _, err := db.Exec(fmt.Sprintf("UPDATE %s_block SET slots = $1 WHERE block = $2", name), []byte("short"), block); err != nil {
				t.Fatal(err)
			}
			if _, err := x.Search(context.Background(), db, query); !errors.Is(err, search.ErrSchema) {
				t.Errorf("block %d: %v", block, err)
			}
		}
		do(t, db, func(tx *sql.Tx) error { return x.Rebuild(context.Background(), tx) })
		if got := ids(t, db, &x, query); len(got) == 0 {
			t.Error("nothing is found after the repair")
		}
	})
}
