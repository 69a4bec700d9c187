package diskfull

import "syscall"

// ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL and ERROR_DISK_QUOTA_EXCEEDED, and what Go and tests use
// instead.
var errnos = []error{syscall.Errno(39), syscall.Errno(112), syscall.Errno(1295), syscall.ENOSPC, syscall.EDQUOT}
