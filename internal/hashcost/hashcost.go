// Package hashcost makes password hashing cheap in the tests of this module.
package hashcost

import "sync/atomic"

var low atomic.Bool

// Lower makes all new password hashes of this process cheap, for good. Only testenv.CheapPasswords
// calls it.
func Lower() { low.Store(true) }

// Low reports whether Lower was called.
func Low() bool { return low.Load() }
