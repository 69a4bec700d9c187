// Package accounttest tests the guarantees of packages account and account/credential over a store.
//
//	func TestAccounts(t *testing.T) {
//		accounttest.Run(t, func(tb testing.TB, now func() time.Time) storage.Store { … })
//	}
//
// A backend that passes storagetest passes it. It is for code that builds on accounts, and for the
// two packages themselves. It has these parts:
//
//   - Histories: random operations, each compared with a simple model: its result, and the visible
//     state of all accounts, names, invite codes, sessions, app passwords, tokens and takedowns. A
//     counter never goes back, and no name belongs to two accounts.
//   - Crashes: each operation is run once for every call of the store that it makes, and the
//     process dies before or after that call. After a restart the state is that before or after the
//     operation, in all namespaces and in the log of events.
//   - Meanwhile: another process ends all sessions during each operation of a session. The
//     operation is refused and leaves nothing.
//   - AtOnce: the same names and credentials are changed concurrently.
//
// The tests of this package run the suite over stores and operations with one fault each, and check
// that it finds every fault.
package accounttest

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Open opens an empty store that uses a clock.
type Open func(tb testing.TB, now func() time.Time) storage.Store

// Run runs all parts as subtests.
func Run(t *testing.T, open Open) {
	histories := 20
	if testing.Short() {
		histories = 4
	}
	t.Run("Histories", func(t *testing.T) { Histories(t, open, histories, 120) })
	t.Run("Crashes", func(t *testing.T) { Crashes(t, open) })
	t.Run("Meanwhile", func(t *testing.T) { Meanwhile(t, open) })
	t.Run("AtOnce", func(t *testing.T) { AtOnce(t, open) })
}
