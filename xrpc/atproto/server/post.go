package server

import (
	"context"
	"sync"
	"time"
)

// postbox runs jobs in the background, a bounded number of them. The time that a job takes, and
// whether it succeeds, would tell a stranger whom the server knows.
type postbox struct {
	ctx     context.Context // of the jobs
	stop    context.CancelFunc
	workers chan struct{} // has room for the jobs that run

	mu     sync.Mutex
	jobs   int // that wait or run
	closed bool
	done   sync.WaitGroup
}

const (
	postWaiting = 200 // jobs
	postWorkers = 4
	postTimeout = time.Minute // of a job
)

// newPostbox returns one. It has no goroutines but those of jobs.
func newPostbox() *postbox {
	p := &postbox{workers: make(chan struct{}, postWorkers)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// do adds a job, or reports that there is no room.
func (p *postbox) do(job func(context.Context)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.jobs >= postWaiting+postWorkers {
		return false
	}
	p.jobs++
	p.done.Go(func() {
		p.workers <- struct{}{}
		ctx, cancel := context.WithTimeout(p.ctx, postTimeout)
		defer func() {
			cancel()
			<-p.workers
			p.mu.Lock()
			p.jobs--
			p.mu.Unlock()
		}()
		job(ctx)
	})
	return true
}

// close lets the jobs that wait end, until the context does.
func (p *postbox) close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	defer p.stop()
	ended := make(chan struct{})
	go func() { p.done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		p.stop()
		<-ended
	}
}
