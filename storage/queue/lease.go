package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Job is a leased job.
type Job struct {
	ID       string
	Key      string // of the Message
	Body     []byte
	Attempt  int       // 1: the first one
	Enqueued time.Time // when it was sent
	// Until is when the lease ends.
	Until time.Time
	// LastError is the error text of the previous attempt.
	LastError string
	// Lease identifies the lease. Whoever knows it and the ID can extend it and finish the job.
	Lease string
}

const (
	// maxReceive bounds how many jobs one transaction leases, and maxBytes about how many bytes
	// their bodies have together.
	maxReceive = 100
	maxBytes   = 4 << 20
)

// Receive leases up to n due jobs and returns at once. It leases at most 100, and no more once
// their bodies have 4 MiB in total. Finish each of them with Finish. While the queue is paused it
// returns none.
func (q *Queue) Receive(ctx context.Context, n int) ([]*Job, error) {
	jobs, _, err := q.receive(ctx, n)
	return jobs, err
}

// Take is [Queue.Receive] that waits up to wait for a job, and then returns none. It holds no
// resources of the store while it waits.
func (q *Queue) Take(ctx context.Context, n int, wait time.Duration) ([]*Job, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		woken := q.nextWake()
		jobs, next, err := q.receive(ctx, n)
		if err != nil || len(jobs) > 0 || n <= 0 {
			return jobs, err
		}
		pause := q.cfg.Poll
		if !next.IsZero() {
			pause = min(pause, max(next.Sub(q.cfg.Now()), time.Millisecond))
		}
		poll := time.NewTimer(pause)
		select {
		case <-woken:
		case <-poll.C:
		case <-end.C:
			poll.Stop()
			return nil, nil
		case <-ctx.Done():
			poll.Stop()
			return nil, ctx.Err()
		}
		poll.Stop()
	}
}

// Next returns when the next job can be leased: now or earlier if there is one. It is zero if there
// is none, if the queue is paused, or if Config.Limit is reached.
func (q *Queue) Next(ctx context.Context) (time.Time, error) {
	list, next, err := q.due(ctx, 1)
	if err == nil && len(list) > 0 {
		return parseMicros(list[0].due), nil
	}
	return next, q.fail("next", err)
}

// LeaseTime returns Config.Lease.
func (q *Queue) LeaseTime() time.Duration { return q.cfg.Lease }

// receive also returns when the next job can be leased, if it has found none.
func (q *Queue) receive(ctx context.Context, n int) (jobs []*Job, next time.Time, err error) {
	// A look first, so that polling writes nothing.
	ids, next, err := q.due(ctx, 1)
	if err != nil || len(ids) == 0 {
		return nil, next, q.fail("receive", err)
	}
	var events []Event
	err = q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		jobs, events = nil, nil
		t := &tx{kv, ctx, q}
		now := q.cfg.Now()
		ids, _, err := q.dueIn(ctx, t, now, min(n, maxReceive))
		if err != nil {
			return err
		}
		bytes := 0
		for _, d := range ids {
			if bytes >= maxBytes {
				break
			}
			job, e, err := t.lease(d.id, d.due, now)
			if err != nil {
				return err
			}
			if e.Kind != "" {
				events = append(events, e)
			}
			if job != nil {
				jobs = append(jobs, job)
				bytes += len(job.Body)
			}
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, q.fail("receive", err)
	}
	for _, e := range events {
		q.observe(e)
	}
	return jobs, time.Time{}, nil
}

func (q *Queue) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("queue %s: %s: %w", q.cfg.Name, what, err)
}

// dueJob is an entry under r.
type dueJob struct {
	id  string
	due string
}

// due looks for jobs that can be leased, in a snapshot. If there are none, next is when the first
// one is due; zero: that is not known, since the queue is paused, has as many leases as it may
// have, or none.
func (q *Queue) due(ctx context.Context, n int) (list []dueJob, next time.Time, err error) {
	err = q.cfg.KV.Read(ctx, func(r storage.KVReader) error {
		list, next, err = q.dueIn(ctx, r, q.cfg.Now(), n)
		return err
	})
	return list, next, err
}

// dueIn is due in a transaction. While nothing is due, it looks at one range only, the same at all times.
func (q *Queue) dueIn(ctx context.Context, r storage.KVReader, now time.Time, n int) (list []dueJob, next time.Time, err error) {
	if _, err := r.Get(ctx, q.prefix+"p"); err == nil {
		n = 0 // it is paused
	} else if !errors.Is(err, storage.ErrNotFound) {
		return nil, next, err
	}
	all := storage.Prefix(q.prefix + "r/")
	all.KeysOnly = true
	for pair, err := range r.Keys(ctx, all) {
		if err != nil {
			return nil, next, err
		}
		due, id, _ := strings.Cut(pair.Key[len(all.From):], "/")
		if due > micros(now.UnixMicro()) {
			if len(list) == 0 {
				next = parseMicros(due)
			}
			break
		}
		if len(list) == 0 && n > 0 {
			if n, err = q.free(ctx, r, now, n); err != nil {
				return nil, next, err
			}
		}
		if n <= 0 {
			break // a job that ends tells
		}
		if list = append(list, dueJob{id, due}); len(list) == n {
			break
		}
	}
	return list, next, nil
}

// lease leases a job, or makes it dead if it has been tried too often.
func (t *tx) lease(id, due string, now time.Time) (*Job, Event, error) {
	q := t.q
	j, err := q.getRow(t.ctx, t, id)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (j.Dead || micros(j.Due) != due) {
		return nil, Event{}, t.del("r/" + due + "/" + id) // it leads nowhere, which should not be
	} else if errors.Is(err, storage.ErrCorrupt) {
		return nil, Event{Kind: Died, ID: id, Err: err}, t.bury(id, due, err, now)
	} else if err != nil {
		return nil, Event{}, err
	}
	if j.Attempt >= q.cfg.Attempts { // its consumers died
		if j.Error == "" {
			j.Error = "the lease ended"
		}
		return nil, Event{Kind: Died, ID: id, Attempt: j.Attempt, Waited: now.Sub(time.UnixMicro(j.Enqueued))}, t.die(id, j, now)
	}
	body, err := q.body(t.ctx, t, id, j)
	if errors.Is(err, storage.ErrNotFound) {
		j.Error, j.Long = "the body of the job is lost", false
		return nil, Event{Kind: Died, ID: id, Attempt: j.Attempt, Waited: now.Sub(time.UnixMicro(j.Enqueued)), Err: err}, t.die(id, j, now)
	} else if err != nil {
		return nil, Event{}, err
	}
	e := Event{Kind: Leased, ID: id, Attempt: j.Attempt + 1, Waited: now.Sub(time.UnixMicro(j.Due))}
	j.Attempt++
	j.Token = rand.Text()
	if err := t.move(id, j, now.Add(q.cfg.Lease).UnixMicro()); err != nil {
		return nil, Event{}, err
	}
	key, err := hex.DecodeString(j.Key)
	if err != nil {
		return nil, Event{}, fmt.Errorf("%w: the key of job %s", storage.ErrCorrupt, id)
	}
	return &Job{
		ID: id, Key: string(key), Body: body, Attempt: j.Attempt, Enqueued: time.UnixMicro(j.Enqueued).UTC(),
		Until: time.UnixMicro(j.Due).UTC(), LastError: j.Error, Lease: j.Token,
	}, e, nil
}

// leased returns the row of a job if the caller's lease holds.
func (t *tx) leased(job *Job) (*row, error) {
	if t.q.check(&Message{ID: job.ID}) != nil { // a worker elsewhere says it
		return nil, ErrLeaseLost
	}
	j, err := t.q.getRow(t.ctx, t, job.ID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (j.Dead || job.Lease == "" || j.Token != job.Lease) {
		return nil, ErrLeaseLost
	}
	return j, err
}

// Extend extends the leases of jobs to Config.Lease from now, in one transaction, and sets their
// Until. It returns the jobs whose lease was lost; their Until is unchanged. An expired lease is
// not lost until another consumer has the job.
func (q *Queue) Extend(ctx context.Context, jobs ...*Job) (lost []*Job, err error) {
	lost, until, err := q.extend(ctx, jobs)
	if err != nil {
		return nil, err
	}
	for _, job := range jobs {
		if !slices.Contains(lost, job) {
			job.Until = until
		}
	}
	return lost, nil
}

func (q *Queue) extend(ctx context.Context, jobs []*Job) (lost []*Job, until time.Time, err error) {
	err = q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		lost = nil
		t := &tx{kv, ctx, q}
		until = time.UnixMicro(q.cfg.Now().Add(q.cfg.Lease).UnixMicro()).UTC()
		for _, job := range jobs {
			j, err := t.leased(job)
			if err == nil {
				err = t.move(job.ID, j, until.UnixMicro())
			} else if errors.Is(err, ErrLeaseLost) {
				lost, err = append(lost, job), nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return lost, until, q.fail("extend", err)
}

// Result is the result of an attempt.
type Result struct {
	Job *Job
	// Err is the error of a failed attempt, or nil if the job is done. See [Dead], [After] and
	// [ErrReleased].
	Err error
}

// Finish records results in one transaction. errs has one error for each result: nil if it was
// recorded, or [ErrLeaseLost] if the job is another consumer's or gone. If err is not nil, it is
// unknown whether the results were recorded: call Finish again; otherwise the jobs are done again.
func (q *Queue) Finish(ctx context.Context, results ...Result) (errs []error, err error) {
	var events []Event
	err = q.cfg.KV.Write(ctx, func(kv storage.KVTx) error {
		errs, events = make([]error, len(results)), nil
		t := &tx{kv, ctx, q}
		now := q.cfg.Now()
		for i, r := range results {
			e, err := t.finish(r, now)
			if errors.Is(err, ErrLeaseLost) {
				errs[i] = err
			} else if err != nil {
				return err
			}
			events = append(events, e)
		}
		return nil
	})
	if err != nil {
		return nil, q.fail("finish", err)
	}
	q.Wake() // the next ones of their keys
	for _, e := range events {
		q.observe(e)
	}
	return errs, nil
}

// maxError bounds the text of an error that is kept.
const maxError = 1000

func (t *tx) finish(r Result, now time.Time) (Event, error) {
	e := Event{Kind: Done, ID: r.Job.ID, Attempt: r.Job.Attempt, Err: r.Err}
	if !r.Job.Enqueued.IsZero() { // it is where a worker elsewhere has the job
		e.Waited = now.Sub(r.Job.Enqueued)
	}
	j, err := t.leased(r.Job)
	switch {
	case errors.Is(err, ErrLeaseLost):
		e.Kind = Lost
		return e, err
	case err != nil:
		return e, err
	}
	e.Attempt, e.Waited = j.Attempt, now.Sub(time.UnixMicro(j.Enqueued))
	if r.Err == nil {
		if err := t.removeReady(r.Job.ID, j); err != nil {
			return e, err
		}
		return e, t.remove(r.Job.ID, j)
	}
	if r.Err == ErrReleased {
		e.Kind = Retried
		j.Token = ""
		j.Attempt--
		return e, t.move(r.Job.ID, j, now.UnixMicro())
	}
	text := r.Err.Error()
	j.Error = strings.ToValidUTF8(text[:min(len(text), maxError)], "")
	dead, after, set := Outcome(r.Err)
	if dead || j.Attempt >= t.q.cfg.Attempts {
		e.Kind = Died
		return e, t.die(r.Job.ID, j, now)
	}
	e.Kind = Retried
	delay := t.q.cfg.Backoff(j.Attempt)
	if set {
		delay = after
	}
	j.Token = ""
	return e, t.move(r.Job.ID, j, now.Add(max(delay, 0)).UnixMicro())
}

// ErrReleased is the result of a job that was not begun, or was interrupted. It can be leased again
// at once, and the attempt does not count. Do not wrap it.
var ErrReleased = errors.New("queue: the job was given back")

// Dead wraps the error of a job that must not be tried again.
func Dead(err error) error { return &deadError{err} }

type deadError struct{ err error }

func (e *deadError) Error() string { return e.err.Error() }
func (e *deadError) Unwrap() error { return e.err }

// After wraps the error of a job that is to be tried again after delay, instead of the back-off.
func After(err error, delay time.Duration) error { return &afterError{err, delay} }

// Outcome returns what an error means for a job: whether it becomes dead, and, if set, after what
// delay it is tried again.
func Outcome(err error) (dead bool, after time.Duration, set bool) {
	var d *deadError
	var a *afterError
	if errors.As(err, &a) {
		after, set = a.delay, true
	}
	return errors.As(err, &d), after, set
}

type afterError struct {
	err   error
	delay time.Duration
}

func (e *afterError) Error() string { return e.err.Error() }
func (e *afterError) Unwrap() error { return e.err }
