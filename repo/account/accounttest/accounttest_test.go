package accounttest_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo/account/accounttest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

var _ = testenv.CheapPasswords()

func open(_ testing.TB, now func() time.Time) storage.Store {
	return memory.New(memory.Config{Now: now})
}

// In all parts it runs in the tests of package account.
func Test(t *testing.T) {
	accounttest.Histories(t, open, 2, 60)
}
