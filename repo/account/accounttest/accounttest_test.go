package accounttest_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account/accounttest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

func open(_ testing.TB, now func() time.Time) storage.Store {
	return memory.New(memory.Config{Now: now})
}

func Test(t *testing.T) { accounttest.Run(t, open) }
