package search

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
)

var (
	phraseFTS5 = `"[^" ]+( [^" ]+)*"( \*)?`
	wholeFTS5  = regexp.MustCompile(`^(` + phraseFTS5 + `((` + ` AND | OR ` + `)` + phraseFTS5 + `)*)?$`)
	phrasePG   = `\('[^' ]+'( <-> '[^' ]+')*(:\*)?\)`
	wholePG    = regexp.MustCompile(`^(` + phrasePG + `( [&|] ` + phrasePG + `)*)?$`)
)

// Small makes the sizes of a search so small that little data exceeds them.
func (x *Index) Small() { x.bounds = bounds{3, 1, 5, 1 << 40, 1, 1} }

// Common makes words in more than n documents common.
func (x *Index) Common(n int64) { x.bounds = bounds{2048, 256, 8192, n, 5, 20} }

// CheckTranslation checks the queries that a text becomes.
func CheckTranslation(t *testing.T, text string, grams, prefix, or bool) {
	x := &Index{Grams: grams}
	all, err := x.phrases(text, prefix)
	if err != nil {
		return
	}
	count := 0
	for _, p := range all {
		count += len(p.terms)
	}
	if count > MaxTerms {
		t.Fatalf("%q: %d terms", text, count)
	}
	if s := fts5(all, or); !wholeFTS5.MatchString(s) {
		t.Fatalf("%q: %s", text, s)
	}
	if s := tsquery(all, or); !wholePG.MatchString(s) {
		t.Fatalf("%q: %s", text, s)
	}
	terms := Terms(text, grams)
	for _, p := range all {
		covered := make([]bool, len(terms))
		if p.matches(terms, covered); !slices.Contains(covered, true) {
			t.Fatalf("%q does not match its own phrase %q", text, p.terms)
		}
	}
	s := snippet(text, grams, all)
	last := 0
	for _, m := range s.Marks {
		if m[0] < last || m[1] <= m[0] || m[1] > len(s.Text) {
			t.Fatalf("%q: marks %v in %q", text, s.Marks, s.Text)
		}
		last = m[1]
	}
}

// TestBounds holds the bounds of quantised scores against the exact ones, at the extremes of sums
// too.
func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, dim := range []int{1, 2, 7, 8, 9, 100, 384, MaxDim} {
		x := &Index{Dim: dim}
		make := func(f func(i int) float32) []float32 {
			v := make([]float32, dim)
			for i := range v {
				v[i] = f(i)
			}
			u, err := x.unit(v)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		vectors := [][]float32{
			make(func(int) float32 { return 1 }), make(func(int) float32 { return -1 }),
			make(func(i int) float32 { return float32(1 - 2*(i&1)) }),
			make(func(i int) float32 { return float32(math.Pow(0.5, float64(i))) }),
		}
		for range 20 {
			vectors = append(vectors, make(func(int) float32 { return float32(r.NormFloat64()) }))
		}
		for _, q := range vectors {
			p := newProbe(q)
			for _, v := range vectors {
				score, radius := p.bounds(x.quantise(v))
				if exact := dot(q, v); math.Abs(score-exact) > radius {
					t.Fatalf("%d dimensions: %v ± %v, exactly %v", dim, score, radius, exact)
				} else if radius > 0.02 && dim > 8 && dim <= 384 {
					t.Errorf("%d dimensions: bounds as wide as %v", dim, radius)
				}
			}
		}
	}
}

// TestManyEqualVectors: candidates that no bounds tell apart stay within their limit.
func TestManyEqualVectors(t *testing.T) {
	n := &nearest{k: 3, least: math.Inf(-1)}
	for i := range int64(100) {
		n.add(i, 0.5, 0.1)
	}
	n.add(100, 0.9, 0.1)
	n.add(101, 0.9, 0.1)
	n.add(102, 0.9, 0.1)
	if n.prune(); len(n.some) != 3 {
		t.Fatalf("%d candidates", len(n.some))
	}
	n.settle([]scored{{100, 0.85}, {101, 0.95}, {102, 0.95}})
	if n.add(103, 0.7, 0.1); len(n.some) != 3 {
		t.Fatalf("%d candidates after a worse one", len(n.some))
	}
	if n.exact[0].doc != 101 || n.exact[1].doc != 102 || n.floor() != 0.85 {
		t.Fatalf("%v, floor %v", n.exact, n.floor())
	}
}

// BenchmarkBounds compares one vector of 384 dimensions: through its copy, and itself.
func BenchmarkBounds(b *testing.B) {
	x := &Index{Dim: 384}
	v := make([]float32, x.Dim)
	for i := range v {
		v[i] = rand.Float32() - 0.5
	}
	u, err := x.unit(v)
	if err != nil {
		b.Fatal(err)
	}
	slot, p := x.quantise(u), newProbe(u)
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			p.bounds(slot)
		}
	})
	b.Run("exact", func(b *testing.B) {
		for b.Loop() {
			dot(u, u)
		}
	})
}
