// Package paging reads the lists of servers, which come a page at a time, and may be without end.
package paging

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"
)

// Bounds of a list.
const (
	// maxPages is how many pages a list has. With 500 accounts on a page, it may have 100 million.
	maxPages = 200_000
	// timeout bounds the time for one page.
	timeout = time.Minute
	// maxEmpty is how many pages without an item may follow one another: a relay that has many
	// accounts that it does not show sends some.
	maxEmpty = 100
)

// Each calls read with one cursor after another, the first of which is empty, until a page has no
// next one. read returns that and how many items the page has; its context has a limit of time. A
// list that goes in a circle, or has too many empty pages, ends without an error.
func Each(ctx context.Context, read func(ctx context.Context, cursor string) (next string, n int, err error)) error {
	seed := maphash.MakeSeed()
	seen := make(map[uint64]bool) // the cursors
	empty := 0
	for cursor := ""; ; {
		at := maphash.String(seed, cursor)
		switch {
		case seen[at]:
			return nil
		case len(seen) == maxPages:
			return fmt.Errorf("the list has more than %d pages", maxPages)
		}
		seen[at] = true
		limited, done := context.WithTimeout(ctx, timeout)
		next, n, err := read(limited, cursor)
		done()
		if empty++; n > 0 {
			empty = 0
		}
		if err != nil || next == "" || empty == maxEmpty {
			return err
		}
		cursor = next
	}
}
