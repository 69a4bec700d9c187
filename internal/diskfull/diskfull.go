// Package diskfull knows the errors by which systems say that there is no room left on a disk.
package diskfull

import "errors"

// Is reports whether an error says that a disk, or the user's share of it, is full.
func Is(err error) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
