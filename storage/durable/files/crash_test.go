package files_test

import (
	"testing"

	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// PDSKIT_CRASHES=200 go test -run TestCrash ./storage/sqlite ./storage/durable/files
func TestCrash(t *testing.T) { storagetest.RunCrash(t, backend(durable.Config{MaxOpen: 2}), 15) }

func TestDamage(t *testing.T) { storagetest.RunDamage(t, backend(durable.Config{}), 40) }
