// Package storedjson reads JSON documents that the same program has stored as key-value pairs.
package storedjson

import (
	"context"
	"encoding/json"
	"iter"
	"slices"

	"github.com/pdskit/pdskit/storage"
)

// Document is a stored document.
type Document[T any] struct {
	Key   string
	Text  []byte // as it is stored
	Value T
}

// Documents yields the documents whose keys have a prefix, in key order. It ends with the first
// error.
func Documents[T any](ctx context.Context, r storage.KVReader, prefix string) iter.Seq2[Document[T], error] {
	return func(yield func(Document[T], error) bool) {
		for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
			doc := Document[T]{Key: pair.Key, Text: pair.Value}
			if err == nil {
				err = json.Unmarshal(pair.Value, &doc.Value)
			}
			if !yield(doc, err) || err != nil {
				return
			}
		}
	}
}

// Count returns how many keys have a prefix. It reads no documents.
func Count(ctx context.Context, r storage.KVReader, prefix string) (n int, err error) {
	rng := storage.Prefix(prefix)
	rng.KeysOnly = true
	for _, err := range r.Keys(ctx, rng) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Surplus returns the keys of those documents with a prefix that have to go, so that one more makes no
// more than most: the first in an order. Unless there are so many, it reads no documents.
func Surplus[T any](ctx context.Context, r storage.KVReader, prefix string, most int, order func(a, b T) int) (keys []string, err error) {
	n, err := Count(ctx, r, prefix)
	if err != nil || n < most {
		return nil, err
	}
	list := make([]Document[T], 0, n)
	for doc, err := range Documents[T](ctx, r, prefix) {
		if err != nil {
			return nil, err
		}
		list = append(list, doc)
	}
	slices.SortFunc(list, func(a, b Document[T]) int { return order(a.Value, b.Value) })
	for _, doc := range list[:max(0, len(list)-most+1)] {
		keys = append(keys, doc.Key)
	}
	return keys, nil
}
