package postgres

import (
	"context"
	"sync"
)

// numbers gives out numbers of repositories and sets, which are never used again.
type numbers struct {
	mu          sync.Mutex
	free, after int64
}

// numberBlock is by how much the sequence grows at a time.
const numberBlock = 64

func (n *numbers) next(ctx context.Context, db *DB) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.free == n.after {
		err := db.bulk.retry(ctx, func(c *conn) error {
			var b batch
			b.each(func(r row) error {
				n.free = r.int(0)
				n.after = n.free + numberBlock
				return nil
			}, "SELECT nextval('number')")
			return c.send(ctx, &b)
		})
		if err != nil {
			return 0, err
		}
	}
	n.free++
	return n.free - 1, nil
}
