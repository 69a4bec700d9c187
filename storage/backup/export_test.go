package backup

import "time"

// Choose is choose, for tests.
func Choose(k Keep, times []time.Time) []bool { return k.choose(times) }
