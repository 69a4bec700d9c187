package main_test

import (
	"os"
	"syscall"
)

// maxRSS is the most memory in bytes that a process had.
func maxRSS(p *os.ProcessState) int64 { return p.SysUsage().(*syscall.Rusage).Maxrss << 10 }
