package repo

import (
	"context"
	"io"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// readAhead is how much of an export waits in memory for a slow reader before
// the rest goes to a temporary file.
const readAhead = 512 << 10

// warm makes sure that an export finds its tree in memory, before it takes its turn.
func (h *Host) warm(ctx context.Context, did syntax.DID, since syntax.TID) (state, error) {
	head, err := h.Head(ctx, did)
	if err != nil || since != "" && since == head.Rev {
		return state{}, err
	}
	if st, ok := h.cache.get(did); ok {
		return st, nil
	}
	return h.build(ctx, did)
}

// maxScans bounds how many exports read their snapshots at the same time. Those that have read
// them and wait for their clients do not count.
func maxScans() int { return max(4, runtime.GOMAXPROCS(0)) }

// patience is how long an export for which there is no room in the spool holds its snapshot for a
// slow reader.
const patience = 30 * time.Second

// spooled runs produce with a writer that does not wait for w.
func (h *Host) spooled(ctx context.Context, w io.Writer, produce func(io.Writer) error) error {
	opt := spool.Options{Dir: h.spool, Memory: readAhead, Patience: patience}
	if h.hold != nil {
		opt.Hold = func(n int64) error { return h.hold(ctx, n) }
	}
	err := spool.Copy(w, opt, func(w io.Writer) error {
		select {
		case h.scans <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-h.scans }()
		return produce(w)
	})
	return roomError(err)
}
