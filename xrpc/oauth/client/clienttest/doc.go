// Package clienttest tests the stores of package client: the contracts of [client.SessionStore],
// [client.StateStore] and [client.Locker]. Write a test of your own store with it:
//
//	func TestStore(t *testing.T) {
//		clienttest.Sessions(t, func(t *testing.T) (one, other client.SessionStore) {
//			db := open(t)
//			return &Store{DB: db}, &Store{DB: db}
//		})
//		…
//	}
//
// Each function opens the store several times; it must be empty. The two values that open returns
// are handles of the same data, like those of two processes.
package clienttest
