package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// Consumer says how jobs are done. Handle is required.
type Consumer struct {
	// Handle does a job. If it returns nil, the job is done. Its context ends when the lease is
	// lost, after Timeout, or some time after the context of Consume (see Drain). A panic counts as
	// an error.
	Handle func(ctx context.Context, job *Job) error
	// Concurrency is how many jobs run concurrently. 0: 8.
	Concurrency int
	// Timeout is how long a job may take. 0: five minutes.
	Timeout time.Duration
	// Drain is how long running jobs may continue after the context of Consume has ended. 0: 10
	// seconds.
	Drain time.Duration
	// Failed, if not nil, is called with errors of the store, perhaps concurrently. Consume
	// continues after them.
	Failed func(error)
}

// errPanic is in the error of a handler that has panicked.
var errPanic = errors.New("queue: the handler has panicked")

// Source is a source of jobs: a [Queue], or a client of one.
type Source interface {
	// Take leases up to n jobs. It waits up to wait for the first one, and then returns none.
	Take(ctx context.Context, n int, wait time.Duration) ([]*Job, error)
	// Extend extends leases to LeaseTime from now, and returns the jobs whose leases were lost.
	Extend(ctx context.Context, jobs ...*Job) (lost []*Job, err error)
	// Finish records results: see [Queue.Finish].
	Finish(ctx context.Context, results ...Result) (errs []error, err error)
	// LeaseTime returns how long a lease lasts, as far as known.
	LeaseTime() time.Duration
}

// Consume calls [Consume] with the queue as the source.
func (q *Queue) Consume(ctx context.Context, c Consumer) error { return Consume(ctx, q, c) }

// Consume does jobs until the context ends. Then it waits for running jobs, up to Consumer.Drain,
// and returns nil. It leases up to 100 jobs at a time, and records many results in one transaction,
// so short jobs need few transactions. It extends the leases of longer jobs.
func Consume(ctx context.Context, from Source, c Consumer) error {
	if c.Handle == nil {
		return errors.New("queue: Consumer.Handle is missing")
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 8
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Minute
	}
	if c.Drain <= 0 {
		c.Drain = 10 * time.Second
	}
	// The work outlives the context by the time to drain.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r := &run{
		from: from, c: c, ctx: work, stop: ctx.Done(), held: make(map[*Job]context.CancelCauseFunc),
		begun: make(chan struct{}), todo: make(chan *Job, maxReceive+c.Concurrency), results: make(chan Result, maxReceive), room: make(chan struct{}, 1),
	}
	r.took.Store(int64(short))
	var workers, others sync.WaitGroup
	for range c.Concurrency {
		workers.Go(r.work)
	}
	others.Go(r.finish)
	beat, stopBeat := context.WithCancel(work)
	others.Go(func() { r.extend(beat) })
	r.fetch(ctx)

	close(r.todo)
	drained := time.AfterFunc(c.Drain, cancel)
	workers.Wait()
	drained.Stop()
	close(r.results)
	stopBeat()
	others.Wait()
	return nil
}

// run is a Consume under way.
//
//	fetch ──todo──▶ work (several) ──results──▶ finish
//	                 extend, for all that are held
type run struct {
	from    Source
	c       Consumer
	ctx     context.Context // of the handlers
	stop    <-chan struct{} // closed when no more jobs are to be begun
	begun   chan struct{}   // closed when there were jobs
	todo    chan *Job
	results chan Result
	room    chan struct{} // has a value when a job has ended
	took    atomic.Int64  // nanoseconds that jobs take, about

	mu sync.Mutex
	// held are the jobs that are leased and not finished; the function cancels their work.
	held map[*Job]context.CancelCauseFunc
}

func (r *run) failed(err error) {
	if r.c.Failed != nil && err != nil && r.ctx.Err() == nil {
		r.c.Failed(err)
	}
}

// holding returns how many jobs are held.
func (r *run) holding() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

// short is how long the work may last that is leased in advance. A longer one is left to others.
const short = 50 * time.Millisecond

// plan returns how many jobs to hold at most, and how many to lease at least. Of short ones, few at
// a time would cost many transactions.
func (r *run) plan() (most, least int) {
	ahead := int64(r.c.Concurrency) * int64(short) / max(r.took.Load(), int64(10*time.Microsecond))
	most = r.c.Concurrency + int(min(ahead, maxReceive))
	if ahead < int64(r.c.Concurrency) {
		return most, 1
	}
	return most, min(most/2, maxReceive)
}

const (
	// takeWait is how long one Take waits, and takeAgain how long there is none after an error, if
	// a tenth of a lease is not shorter.
	takeWait  = 20 * time.Second
	takeAgain = time.Second
)

// fetch leases jobs until the context ends: as many as are done at a time, and of short ones some
// more, whose leases are extended while they wait.
func (r *run) fetch(ctx context.Context) {
	begin := sync.OnceFunc(func() { close(r.begun) })
	for ctx.Err() == nil {
		most, least := r.plan()
		free := most - r.holding()
		if free < least {
			select {
			case <-r.room:
			case <-ctx.Done():
			}
			continue
		}
		jobs, err := r.from.Take(ctx, free, takeWait)
		r.mu.Lock()
		for _, j := range jobs {
			r.held[j] = nil
		}
		r.mu.Unlock()
		if len(jobs) > 0 {
			begin()
		}
		for _, j := range jobs {
			r.todo <- j // there is room for all that are held
		}
		if err != nil && ctx.Err() == nil {
			r.failed(err)
			sleep.For(ctx, min(takeAgain, r.from.LeaseTime()/10))
		}
	}
}

// work does jobs.
func (r *run) work() {
	for job := range r.todo {
		select {
		case <-r.stop:
			r.results <- Result{job, ErrReleased}
			continue
		default:
		}
		ctx, cancel := context.WithCancelCause(r.ctx)
		r.mu.Lock()
		_, ours := r.held[job]
		if ours {
			r.held[job] = cancel
		}
		r.mu.Unlock()
		if !ours { // its lease was lost while it waited
			cancel(nil)
			continue
		}
		timed, done := context.WithTimeout(ctx, r.c.Timeout)
		start := time.Now()
		err := r.handle(timed, job)
		took := r.took.Load()
		r.took.Store(took + (int64(time.Since(start))-took)/8) // about
		switch {
		case err == nil && context.Cause(ctx) == ErrLeaseLost:
			err = ErrLeaseLost // Finish finds it out too
		case err != nil && r.ctx.Err() != nil:
			err = ErrReleased
		}
		done()
		cancel(nil)
		r.results <- Result{job, err}
	}
}

func (r *run) handle(ctx context.Context, job *Job) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, v, debug.Stack())
		}
	}()
	return r.c.Handle(ctx, job)
}

const (
	// finishTries is how often results are noted that could not be, and finishTime how long that
	// may take, if a lease is not longer.
	finishTries = 5
	finishTime  = 5 * time.Second
)

// finish notes results, all that there are at a time.
func (r *run) finish() {
	for first := range r.results {
		list := []Result{first}
	more:
		for len(list) < maxReceive {
			select {
			case next, ok := <-r.results:
				if !ok {
					break more
				}
				list = append(list, next)
			default:
				break more
			}
		}
		// Results are noted also when the context of the work has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), max(r.from.LeaseTime(), finishTime))
		for try := range finishTries {
			_, err := r.from.Finish(ctx, list...)
			if err == nil {
				break
			}
			r.failed(err) // after the last one, the jobs are done again when their leases end
			if try < finishTries-1 {
				time.Sleep(time.Duration(10<<(2*try)) * time.Millisecond)
			}
		}
		cancel()
		r.mu.Lock()
		for _, res := range list {
			delete(r.held, res.Job)
		}
		r.mu.Unlock()
		r.makeRoom()
	}
}

// makeRoom tells fetch that fewer jobs are held.
func (r *run) makeRoom() {
	select {
	case r.room <- struct{}{}:
	default:
	}
}

// extend extends the leases of all jobs that are held, three times in the time of a lease.
func (r *run) extend(ctx context.Context) {
	select {
	case <-r.begun: // before, the time of a lease may not be known
	case <-ctx.Done():
		return
	}
	for {
		if sleep.For(ctx, max(r.from.LeaseTime()/3, time.Millisecond)) != nil {
			return
		}
		// Handlers have the jobs: what is extended are copies.
		held := map[*Job]*Job{}
		var leases []*Job
		r.mu.Lock()
		for j := range r.held {
			lease := &Job{ID: j.ID, Lease: j.Lease}
			held[lease] = j
			leases = append(leases, lease)
		}
		r.mu.Unlock()
		if len(leases) == 0 {
			continue
		}
		lost, err := r.from.Extend(ctx, leases...)
		if err != nil {
			r.failed(err)
			continue
		}
		r.mu.Lock()
		for _, lease := range lost {
			j := held[lease]
			cancel, there := r.held[j]
			if !there {
				continue // finished meanwhile
			}
			delete(r.held, j)
			if cancel != nil {
				cancel(ErrLeaseLost)
			}
		}
		r.mu.Unlock()
		r.makeRoom()
	}
}
