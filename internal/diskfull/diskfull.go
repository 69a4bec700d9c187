// Package diskfull recognises the errors of a full disk on each system.
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
