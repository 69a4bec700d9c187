package testenv

import (
	"os"
	"testing"
)

// Long reports whether tests may take minutes: PDSKIT_LONG is set.
func Long() bool { return os.Getenv("PDSKIT_LONG") != "" }

// Slow leaves a test out with -short, for a reason such as "starts PostgreSQL". Under the race detector,
// which CI runs with -short, it is not left out: what shows nothing there asks for testing.Short itself.
func Slow(t testing.TB, reason string) {
	t.Helper()
	if testing.Short() && !Race {
		t.Skip("with -short: " + reason)
	}
}

// Rounds says how often a test repeats what has another seed each time: usual, one time with
// -short, long with PDSKIT_LONG.
func Rounds[N int | int64 | uint64](t testing.TB, usual, long N) N {
	t.Helper()
	switch {
	case Long():
		return long
	case testing.Short():
		return min(usual, 1)
	}
	return usual
}
