package postgres

import (
	"context"
	"sync"
)

// numbers gives out numbers of repositories and sets, which are never used again.
type numbers struct {
	// mu guards these. It is held while the server is asked for the next block.
	mu         sync.Mutex
	first, end int64 // the numbers from first to before end are free
}

// numberBlock is by how much the sequence grows at a time.
const numberBlock = 64

func (n *numbers) next(ctx context.Context, db *DB) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.first == n.end {
		err := db.bulk.retry(ctx, func(c *conn) error {
			var b batch
			b.each(func(r row) error {
				n.first = r.int(0)
				n.end = n.first + numberBlock
				return nil
			}, "SELECT nextval('number')")
			return c.send(ctx, &b)
		})
		if err != nil {
			return 0, err
		}
	}
	n.first++
	return n.first - 1, nil
}
