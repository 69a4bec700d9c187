package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Backups come at their intervals, however long each takes; what fails is tried again, with pauses
// that grow up to an hour, and the end of the context ends it.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var at []string
		repeat(ctx, 3*time.Hour, 24*time.Hour, func() error {
			at = append(at, fmt.Sprint(time.Since(start)))
			time.Sleep(time.Minute)
			switch n := len(at); {
			case n == 13:
				cancel()
			case n >= 3 && n < 11:
				return errors.New("no room")
			}
			return nil
		})
		if want := []string{"3h0m0s", "27h0m0s", "51h0m0s", "51h2m0s", "51h5m0s", "51h10m0s", "51h19m0s", "51h36m0s", "52h9m0s", "53h10m0s", "54h11m0s", "78h11m0s", "102h11m0s"}; !slices.Equal(at, want) {
			t.Errorf("%q", at)
		}
		cancel()
		repeat(ctx, time.Hour, time.Hour, func() error { t.Error("called after the end"); return nil })
	})
}
