package search_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage/search"
)

// TestCommonWords holds queries with words that are too common to be ranked by against the model: the
// same documents match, their scores are those of the other words, and where there are no others, the
// newest come first.
func TestCommonWords(t *testing.T) {
	db, err := open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	x := &search.Index{}
	create(t, db, x)
	x.Common(100)
	r := rand.New(rand.NewPCG(3, 4))
	m := &model{docs: make(map[string]search.Doc)}
	common := []string{"the", "and", "東京"} // in half of all documents and more, evenly
	do(t, db, func(tx *sql.Tx) error {
		for i := range 1000 {
			var words []string
			for _, w := range common {
				if i%2 == 0 || r.IntN(3) == 0 {
					words = append(words, w)
				}
			}
			for w := range 12 {
				if r.IntN(8+20*w) == 0 && w > 0 {
					words = append(words, strings.Repeat(fmt.Sprint("w", w, " "), 1+r.IntN(2)))
				}
			}
			if i > 850 {
				words = append(words, "today") // frequent for a day, and so not common
			}
			d := search.Doc{ID: fmt.Sprint(i), Text: strings.Join(words, " "), Meta: map[string]string{"author": fmt.Sprint(i % 3)}}
			m.put(d)
			if err := x.Put(context.Background(), tx, d); err != nil {
				return err
			}
		}
		return nil
	})
	newest := slices.Clone(m.order)
	slices.Reverse(newest)
	for _, text := range []string{"the", "the and", "東京", "the w1", "w3 and the", "the w2 w1", "東京 w11", "today", "the today", "the absent", "w1 w2", "and w5 today"} {
		for _, q := range []search.Query{
			{Text: text, K: 10}, {Text: text, K: 300}, {Text: text, K: 40, Any: true}, {Text: text, K: 1000, Any: true},
			{Text: text, K: 7, Filter: []search.Condition{{Key: "author", In: []string{"1"}}}},
			{Text: text, K: 60, Any: true, Filter: []search.Condition{{Key: "author", In: []string{"1"}}}},
		} {
			var rare []string
			for _, w := range strings.Fields(text) {
				if !slices.Contains(common, w) {
					rare = append(rare, w)
				}
			}
			matching := make(map[string]bool)
			for _, h := range m.words(search.Query{Text: text, Any: q.Any, Filter: q.Filter}) {
				matching[h.id] = true
			}
			var want []ranked
			if len(rare) > 0 {
				want = m.words(search.Query{Text: strings.Join(rare, " "), Any: q.Any, Filter: q.Filter})
				want = slices.DeleteFunc(want, func(h ranked) bool { return !matching[h.id] })
				want = best(want, len(want))
			}
			for _, id := range newest {
				if matching[id] && !slices.ContainsFunc(want, func(h ranked) bool { return h.id == id }) {
					want = append(want, ranked{id, 0})
				}
			}
			hits, err := x.Search(context.Background(), db, q)
			if err != nil {
				t.Fatal(err)
			}
			var got []ranked
			for _, h := range hits {
				got = append(got, ranked{h.ID, h.Score})
			}
			sameHits(t, q, got, want[:min(q.K, len(want))])
		}
	}
}
