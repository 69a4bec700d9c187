//go:build !windows

package diskfull

import "syscall"

var errnos = []error{syscall.ENOSPC, syscall.EDQUOT}
