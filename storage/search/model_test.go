package search_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/storage/search"
)

// model is an index without an index.
type model struct {
	dim   int
	order []string // IDs by their first Put
	docs  map[string]search.Doc
}

func (m *model) put(d search.Doc) {
	if _, ok := m.docs[d.ID]; !ok {
		m.order = append(m.order, d.ID)
	}
	m.docs[d.ID] = d
}

func (m *model) delete(id string) {
	delete(m.docs, id)
	m.order = slices.DeleteFunc(m.order, func(s string) bool { return s == id })
}

// times counts a word, or a sequence of characters of a script without spaces.
func times(text, word string) (n int) {
	if word[0] < 0x80 {
		for _, f := range strings.Fields(text) {
			if strings.EqualFold(f, word) {
				n++
			}
		}
		return n
	}
	for i := range text {
		if strings.HasPrefix(text[i:], word) {
			n++
		}
	}
	return n
}

func (m *model) passes(d search.Doc, filter []search.Condition) bool {
	for _, c := range filter {
		v, ok := d.Meta[c.Key]
		if !ok || c.In != nil && !slices.Contains(c.In, v) || v < c.From || c.Before != "" && v >= c.Before {
			return false
		}
	}
	return true
}

type ranked struct {
	id    string
	score float64
}

func best(all []ranked, n int) []ranked {
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.score, a.score) })
	return all[:min(n, len(all))]
}

// words ranks by bm25, as FTS5 documents it.
func (m *model) words(q search.Query) (all []ranked) {
	words := strings.Fields(q.Text)
	total, rows := 0.0, float64(len(m.docs))
	hits := make([]float64, len(words))
	for _, d := range m.docs {
		total += float64(len(search.Terms(d.Text, false)))
		for i, w := range words {
			if times(d.Text, w) > 0 {
				hits[i]++
			}
		}
	}
	for _, id := range m.order {
		d := m.docs[id]
		score, some, each := 0.0, false, true
		for i, w := range words {
			f := float64(times(d.Text, w))
			some, each = some || f > 0, each && f > 0
			idf := math.Log((rows - hits[i] + 0.5) / (hits[i] + 0.5))
			if idf <= 0 {
				idf = 1e-6
			}
			score += idf * (f * 2.2 / (f + 1.2*(0.25+0.75*float64(len(search.Terms(d.Text, false)))/(total/rows))))
		}
		if (each || q.Any && some) && m.passes(d, q.Filter) {
			all = append(all, ranked{id, score})
		}
	}
	return all
}

func unit(v []float32) []float32 {
	var n float64
	for _, f := range v {
		n += float64(f) * float64(f)
	}
	u := make([]float32, len(v))
	for i, f := range v {
		u[i] = float32(float64(f) / math.Sqrt(n))
	}
	return u
}

func (m *model) near(q search.Query) (all []ranked) {
	for _, id := range m.order {
		if d := m.docs[id]; d.Vector != nil && m.passes(d, q.Filter) {
			score := 0.0
			a, b := unit(q.Vector), unit(d.Vector)
			for i := range a {
				score += float64(a[i]) * float64(b[i])
			}
			all = append(all, ranked{id, score})
		}
	}
	return all
}

// fused is the order of a query with both, for the first hits.
func (m *model) fused(q search.Query, words []ranked) (all []ranked) {
	score := make(map[string]float64)
	for _, list := range [][]ranked{best(words, max(100, 2*q.K)), best(m.near(q), max(100, 2*q.K))} {
		for i, r := range list {
			score[r.id] += 1 / float64(61+i)
		}
	}
	for _, id := range m.order {
		if s := score[id]; s > 0 {
			all = append(all, ranked{id, s})
		}
	}
	return best(all, q.K)
}

var vocabulary = []string{"lorem", "ipsum", "DOLOR", "sit", "amet", "consectetur", "a", "42", "東京", "京都", "東", "ケーキ"}

func randomText(r *rand.Rand) string {
	words := make([]string, r.IntN(12))
	for i := range words {
		words[i] = vocabulary[min(r.IntN(len(vocabulary)), r.IntN(len(vocabulary)))]
	}
	return strings.Join(words, " ")
}

func randomVector(r *rand.Rand, dim int) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(r.NormFloat64() * 3)
	}
	return v
}

func (m *model) randomDoc(r *rand.Rand) search.Doc {
	d := search.Doc{ID: fmt.Sprint("doc", r.IntN(90)), Text: randomText(r)}
	switch r.IntN(4) {
	case 0:
	case 1: // the same ones often
		d.Vector = make([]float32, m.dim)
		d.Vector[r.IntN(m.dim)] = 1
	default:
		d.Vector = randomVector(r, m.dim)
	}
	if r.IntN(4) > 0 {
		d.Meta = map[string]string{"author": string(rune('a' + r.IntN(4))), "at": fmt.Sprintf("2026-%02d", 1+r.IntN(12))}
	}
	return d
}

func (m *model) randomQuery(r *rand.Rand) search.Query {
	q := search.Query{K: 1 + r.IntN(100), Any: r.IntN(2) == 0}
	kind := r.IntN(3)
	if kind != 1 {
		var words []string
		for range 1 + r.IntN(3) {
			words = append(words, vocabulary[r.IntN(len(vocabulary))])
		}
		q.Text = strings.Join(words, " ")
	}
	if kind != 0 {
		q.Vector = randomVector(r, m.dim)
	}
	if r.IntN(2) == 0 {
		q.Filter = []search.Condition{{Key: "author", In: []string{"a", string(rune('a' + r.IntN(4)))}}}
	}
	if r.IntN(3) == 0 {
		q.Filter = append(q.Filter, search.Condition{Key: "at", From: fmt.Sprintf("2026-%02d", r.IntN(12)), Before: fmt.Sprintf("2026-%02d", r.IntN(14))})
	}
	return q
}

// compare holds the hits of a query against the model.
func (m *model) compare(t *testing.T, db search.Querier, x *search.Index, q search.Query) {
	t.Helper()
	hits, err := x.Search(context.Background(), db, q)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	var got []ranked
	for _, h := range hits {
		got = append(got, ranked{h.ID, h.Score})
		if want := m.docs[h.ID].Meta; !maps.Equal(want, h.Meta) {
			t.Fatalf("%s: metadata %v, want %v", h.ID, h.Meta, want)
		}
		for _, mark := range h.Snippet.Marks {
			if mark[0] >= mark[1] || mark[1] > len(h.Snippet.Text) {
				t.Fatalf("%s: marks %v in %q", h.ID, h.Snippet.Marks, h.Snippet.Text)
			}
		}
	}
	var want []ranked
	switch {
	case q.Text == "":
		want = best(m.near(q), q.K)
	case x.Dialect == search.Postgres: // ranks in its own way
		if q.Vector != nil {
			return
		}
		want = m.words(q)
		if len(got) != min(q.K, len(want)) {
			t.Fatalf("%+v: %d hits, want %d", q, len(got), min(q.K, len(want)))
		}
		for i, h := range got {
			if i > 0 && h.score > got[i-1].score || !slices.ContainsFunc(want, func(w ranked) bool { return w.id == h.id }) {
				t.Fatalf("%+v: hit %d is %v", q, i, h)
			}
		}
		return
	case q.Vector == nil:
		want = best(m.words(q), q.K)
	default:
		want = m.fused(q, m.words(q))
	}
	sameHits(t, q, got, want)
}

func sameHits(t *testing.T, q search.Query, got, want []ranked) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%+v: %v, want %v", q, got, want)
	}
	for i := range got {
		if got[i].id != want[i].id || math.Abs(got[i].score-want[i].score) > 1e-9 {
			t.Fatalf("%+v: hit %d is %v, want %v", q, i, got[i], want[i])
		}
	}
}

// TestModel compares an index with the model after random histories, with rollbacks, inside and
// outside of the transactions.
func TestModel(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB, x search.Index) {
		x.Dim = 17
		create(t, db, &x)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		if r.IntN(2) == 0 {
			x.Small()
		}
		m := &model{x.Dim, nil, make(map[string]search.Doc)}
		for range 60 {
			next := &model{m.dim, slices.Clone(m.order), maps.Clone(m.docs)}
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for range 1 + r.IntN(12) {
				if r.IntN(4) == 0 {
					id := fmt.Sprint("doc", r.IntN(90))
					if err := x.Delete(context.Background(), tx, id); err != nil {
						t.Fatal(err)
					}
					next.delete(id)
					continue
				}
				d := m.randomDoc(r)
				if err := x.Put(context.Background(), tx, d); err != nil {
					t.Fatal(err)
				}
				next.put(d)
			}
			next.compare(t, tx, &x, m.randomQuery(r))
			m.compare(t, db, &x, m.randomQuery(r)) // a reader beside the writer
			if r.IntN(4) == 0 {
				err = tx.Rollback()
			} else {
				m, err = next, tx.Commit()
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				m.compare(t, db, &x, m.randomQuery(r))
			}
		}
		sound(t, db, &x)
		m.holds(t, db, &x)
		do(t, db, func(tx *sql.Tx) error { return x.Rebuild(context.Background(), tx) })
		sound(t, db, &x)
		for range 10 {
			m.compare(t, db, &x, m.randomQuery(r))
		}
		do(t, db, func(tx *sql.Tx) error { return x.Clear(context.Background(), tx) })
		sound(t, db, &x)
		m = &model{dim: x.Dim}
		m.holds(t, db, &x)
	})
}

// holds checks that the index has the documents of the model.
func (m *model) holds(t *testing.T, db *sql.DB, x *search.Index) {
	t.Helper()
	var got, want []search.Doc
	for d, err := range x.Docs(context.Background(), db) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d)
	}
	for _, id := range m.order {
		d := m.docs[id]
		if d.Vector != nil {
			d.Vector = unit(d.Vector)
		}
		want = append(want, d)
	}
	byID := func(a, b search.Doc) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}
