// Package clienttest tests the stores that package client keeps sessions in: what
// [client.SessionStore], [client.StateStore] and [client.Locker] demand. Write a test of your own
// store with it:
//
//	func TestStore(t *testing.T) {
//		clienttest.Sessions(t, func(t *testing.T) (one, other client.SessionStore) {
//			db := open(t)
//			return &Store{DB: db}, &Store{DB: db}
//		})
//		…
//	}
//
// Each function opens the store several times, empty. The two values that open returns are handles
// of the same data, as two processes have them.
package clienttest
