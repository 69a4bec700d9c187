package credential_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account/accounttest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

func TestLaws(t *testing.T) {
	accounttest.Run(t, func(_ testing.TB, now func() time.Time) storage.Store {
		return memory.New(memory.Config{Now: now})
	})
}
