package indexer

import (
	"context"
	"strconv"
	"testing"
)

// A relay may have pages without accounts before others, but not without end.
func TestPagesWithoutAccounts(t *testing.T) {
	for _, c := range []struct{ empty, want int }{{3, 4}, {maxEmptyPages - 1, maxEmptyPages}, {10 * maxEmptyPages, maxEmptyPages}} {
		read := 0
		err := eachPage(t.Context(), func(_ context.Context, cursor string) (string, int, error) {
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
