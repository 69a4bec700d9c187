//go:build !unix

package queue_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// backends are those that this platform has.
var backends = []struct {
	name string
	open func(tb testing.TB, now func() time.Time) storage.Store
}{{"memory", nil}}

// sqliteStore is a store in memory where there is no SQLite.
func sqliteStore(testing.TB) storage.Store { return memory.New(memory.Config{}) }
