package testenv

import (
	"testing"

	"github.com/pdskit/pdskit/internal/hashcost"
)

// CheapPasswords makes all new password hashes of the test process cost next to nothing, instead of
// 25 ms and 19 MiB. It is for packages that log in often and test something else:
//
//	var _ = testenv.CheapPasswords()
func CheapPasswords() bool {
	if !testing.Testing() {
		panic("cheap password hashes outside of a test")
	}
	hashcost.Lower()
	return true
}
