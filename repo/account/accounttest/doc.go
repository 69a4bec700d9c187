// Package accounttest checks accounts and credentials over a store: that what package account and
// account/credential promise holds, whatever comes in between.
//
//	func TestAccounts(t *testing.T) {
//		accounttest.Run(t, func(tb testing.TB, now func() time.Time) storage.Store { … })
//	}
//
// A backend passes it if it passes storagetest; it is for those who build on accounts, and for the
// two packages themselves. The parts are:
//
//   - Histories: random operations, each compared with a plain model: what it returns, and what can
//     be seen of all accounts, names, invite codes, sessions, app passwords, tokens and takedowns
//     afterwards. A counter never goes back; no name belongs to two accounts.
//   - Crashes: each operation is run once for every call of the store that it makes, and the
//     process dies before or after that call. After the next start everything is as it was before
//     the operation, or as it is after it, in all namespaces and in the log of events.
//   - Meanwhile: each operation on the word of a session is overtaken by another process that ends
//     all sessions. It is refused, and leaves nothing.
//   - AtOnce: the same names and credentials are changed from many sides at once.
//
// The tests of this package run the suite over stores and operations that are broken in one way
// each, and see to it that it finds every one.
package accounttest

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Open opens an empty store, with a clock.
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
