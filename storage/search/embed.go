package search

import (
	"context"
	"hash/fnv"
	"math"
)

// Embedder makes vectors of texts.
type Embedder interface {
	// Dim is the number of dimensions.
	Dim() int
	// Embed returns one vector for each text. It may be nil for a text without meaning.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Hashing is an [Embedder] without a model: each term of a text adds to one dimension, chosen by
// its hash. Texts with common words are near each other; it knows nothing else. It is for tests and
// demonstrations. Its value is the number of dimensions.
type Hashing int

// Dim implements [Embedder].
func (h Hashing) Dim() int { return int(h) }

// Embed implements [Embedder]. The vector of a text without terms is nil.
func (h Hashing) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		terms := Terms(text, false)
		if len(terms) == 0 || h <= 0 {
			continue
		}
		v := make([]float32, h)
		for _, t := range terms {
			f := fnv.New64a()
			f.Write([]byte(t.Text))
			sum := f.Sum64()
			v[sum%uint64(h)] += 1 - 2*float32(sum>>63)
		}
		var norm float64
		for _, f := range v {
			norm += float64(f) * float64(f)
		}
		if norm == 0 { // terms that cancel each other
			v[0], norm = 1, 1
		}
		for j := range v {
			v[j] /= float32(math.Sqrt(norm))
		}
		all[i] = v
	}
	return all, nil
}
