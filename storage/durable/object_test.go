package durable_test

import (
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
)

func TestMemoryObject(t *testing.T) {
	var all durable.Memory
	durabletest.RunObject(t, func(tb testing.TB, name string) durable.Object {
		o, err := all.Open(tb.Context(), syntax.DID(name), true)
		if err != nil {
			tb.Fatal(err)
		}
		return o
	})
}
