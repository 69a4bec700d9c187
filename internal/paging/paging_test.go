package paging

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// A relay may have pages without accounts before others, but not without end.
func TestPagesWithoutAccounts(t *testing.T) {
	for _, c := range []struct{ empty, want int }{{3, 4}, {maxEmpty - 1, maxEmpty}, {10 * maxEmpty, maxEmpty}} {
		read := 0
		err := Each(t.Context(), func(_ context.Context, cursor string) (string, int, error) {
			if read++; read > c.empty {
				return "", 1, nil
			}
			return strconv.Itoa(read), 0, nil
		})
		if err != nil || read != c.want {
			t.Errorf("%d empty pages: %d were read, want %d: %v", c.empty, read, c.want, err)
		}
	}
}

// A list that goes in a circle, with many items on each page, ends where it began.
func TestCircle(t *testing.T) {
	next := map[string]string{"": "a", "a": "b", "b": "a"}
	var cursors []string
	err := Each(t.Context(), func(_ context.Context, cursor string) (string, int, error) {
		cursors = append(cursors, cursor)
		return next[cursor], 500, nil
	})
	if err != nil || !slices.Equal(cursors, []string{"", "a", "b"}) {
		t.Errorf("cursors %q, %v", cursors, err)
	}
}

// A page may take a minute, and many of them may take longer. An error ends the list.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := 0
		err := Each(t.Context(), func(ctx context.Context, _ string) (string, int, error) {
			read++
			wait := timeout - time.Second
			if read == 3 {
				wait = time.Hour
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			return strconv.Itoa(read), 1, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || read != 3 {
			t.Errorf("%v at page %d", err, read)
		}
	})
}
