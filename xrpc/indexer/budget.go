package indexer

import (
	"context"
	"sync"
)

// budget bounds the bytes of events that are under way.
type budget struct {
	most int // does not change

	// mu guards these. No other lock is taken while it is held.
	mu   sync.Mutex
	left int
	free chan struct{} // closed and replaced when bytes are given back
}

func newBudget(most int) *budget { return &budget{left: most, most: most, free: make(chan struct{})} }

// take takes n bytes, or all that there are if n is more.
func (b *budget) take(ctx context.Context, n int) error {
	n = min(n, b.most)
	for {
		b.mu.Lock()
		if b.left >= n {
			b.left -= n
			b.mu.Unlock()
			return nil
		}
		free := b.free
		b.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += min(n, b.most)
	close(b.free)
	b.free = make(chan struct{})
}
