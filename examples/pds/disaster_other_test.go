//go:build unix && !linux

package main_test

import "os"

// maxRSS is zero where it is not known.
func maxRSS(*os.ProcessState) int64 { return 0 }
