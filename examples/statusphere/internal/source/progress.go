package source

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
)

// progress stores how far a stream was read. Most events say nothing to the index. Their positions
// are stored with the next event that does, or after a second: when the process is killed before,
// they come again, and say nothing again.
type progress struct {
	index  *index.Index
	source string
	passed int64     // the newest event that said nothing; 0: its position is stored
	stored time.Time // when a position was stored last
}

// begin begins with a connection.
func (p *progress) begin() { p.passed, p.stored = 0, time.Now() }

// pass skips an event that says nothing to the index.
func (p *progress) pass(ctx context.Context, at index.Position) error {
	p.passed = at.Seq
	if time.Since(p.stored) < time.Second {
		return nil
	}
	return p.store(ctx)
}

// store stores the position of the last event that was skipped.
func (p *progress) store(ctx context.Context) error {
	if p.passed == 0 {
		return nil
	}
	return p.done(p.index.Moved(ctx, index.Position{Source: p.source, Seq: p.passed}))
}

// done takes the result of applying an event, which stores its position.
func (p *progress) done(err error) error {
	if err == nil {
		p.passed, p.stored = 0, time.Now()
	}
	return err
}
