//go:build js

package cloudflare

import (
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
)

// These tests run inside a Durable Object: see TestInside. In Node.js there is none.
var here, hereErr = Here()

func object(tb testing.TB, table string) *Object {
	tb.Helper()
	if hereErr != nil {
		tb.Skip(hereErr)
	}
	o, err := here.Object(table)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func TestObject(t *testing.T) {
	tables := map[string]string{}
	durabletest.RunObject(t, func(tb testing.TB, name string) durable.Object {
		if tables[name] == "" {
			tables[name] = fmt.Sprintf("object%d", len(tables))
		}
		return object(tb, tables[name])
	})
}
