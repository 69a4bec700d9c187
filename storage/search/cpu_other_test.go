//go:build !linux

package search_test

import "time"

// processor is how much processor time this process has used; 0: nobody knows.
func processor() time.Duration { return 0 }
