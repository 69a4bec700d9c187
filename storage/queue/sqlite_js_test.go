package queue_test

import (
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// sqliteStore is a store in memory where there is no SQLite.
func sqliteStore(testing.TB) storage.Store { return memory.New(memory.Config{}) }
