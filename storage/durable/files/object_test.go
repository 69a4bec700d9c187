package files_test

import (
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
	"github.com/pdskit/pdskit/storage/durable/files"
)

func TestObject(t *testing.T) {
	all, err := files.OpenObjects(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	durabletest.RunObject(t, func(tb testing.TB, name string) durable.Object {
		o, err := all.Open(tb.Context(), syntax.DID(name), true)
		if err != nil {
			tb.Fatal(err)
		}
		return o
	})
	if err := all.Close(); err != nil {
		t.Error(err)
	}
}
