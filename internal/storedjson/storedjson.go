// Package storedjson reads JSON documents that the same program has stored as key-value pairs.
package storedjson

import (
	"context"
	"encoding/json"
	"iter"

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
