package server

import (
	"context"
	"sync"
	"time"
)

// postbox does what is not to be waited for by those who asked for it: whoever could see how long
// it takes, or whether it succeeds, would learn whom the server knows. It is bounded.
type postbox struct {
	jobs chan func(context.Context)
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.RWMutex
	closed bool
}

const (
	postWaiting = 200 // jobs
	postWorkers = 4
	postTimeout = time.Minute // of a job
)

// newPostbox starts one.
func newPostbox() *postbox {
	ctx, stop := context.WithCancel(context.Background())
	p := &postbox{jobs: make(chan func(context.Context), postWaiting), stop: stop}
	for range postWorkers {
		p.done.Go(func() {
			for job := range p.jobs {
				limited, cancel := context.WithTimeout(ctx, postTimeout)
				job(limited)
				cancel()
			}
		})
	}
	return p
}

// do adds a job, or reports that there is no room.
func (p *postbox) do(job func(context.Context)) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return false
	}
	select {
	case p.jobs <- job:
		return true
	default:
		return false
	}
}

// close lets the jobs that wait end, until the context does.
func (p *postbox) close(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.jobs)
	}
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
