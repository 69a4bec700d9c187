package mailqueue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc/mail"
)

// errOld: a message was not sent in time.
var errOld = errors.New("it could not be sent in time")

// deliver sends a message. Its error says whether it is tried again, and may be kept.
func (q *Queue) deliver(ctx context.Context, job *queue.Job) error {
	err := q.try(ctx, job)
	if err == nil {
		return nil
	}
	return &keptError{err, q.sealError(job.ID, err.Error())}
}

// try sends a message. The text of its error may have what the mail server says, which may be
// anything.
func (q *Queue) try(ctx context.Context, job *queue.Job) error {
	l, err := q.open(job.ID, job.Body)
	if err != nil {
		q.log.ErrorContext(ctx, "mail is given up", "id", job.ID, "err", err)
		return queue.Dead(err)
	}
	attrs := []any{"id", job.ID, "kind", l.Mail.Kind, "did", l.Mail.DID, "try", job.Attempt}
	if !q.now().Before(l.Expires) {
		if job.LastError != "" {
			err = errors.New(errOld.Error() + ": " + q.openError(job.ID, job.LastError))
		} else {
			err = errOld
		}
		q.log.ErrorContext(ctx, "mail is given up", append(attrs, "err", err)...)
		return queue.Dead(err)
	}
	if q.cfg.Void != nil && l.Mail.Token != "" {
		void, err := q.cfg.Void(ctx, l.Mail)
		if err != nil {
			return err
		}
		if void {
			q.log.DebugContext(ctx, "mail with a token that is void", attrs...)
			return nil
		}
	}
	if q.cfg.Mailer == nil {
		return errors.New("mailqueue: there is no Mailer")
	}
	err = q.cfg.Mailer.Send(ctx, l.Mail)
	if err != nil && l.Mail.Token != "" && strings.Contains(err.Error(), l.Mail.Token) { // a server that quotes mail
		err = &keptError{err, strings.ReplaceAll(err.Error(), l.Mail.Token, "…")}
	}
	q.count(err)
	switch {
	case err == nil:
		return nil
	case mail.Permanent(err):
		q.log.ErrorContext(ctx, "mail is given up", append(attrs, "err", err)...)
		return queue.Dead(err)
	}
	q.log.WarnContext(ctx, "mail could not be sent and is tried again", append(attrs, "err", err)...)
	return err
}

// count counts a try.
func (q *Queue) count(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.counts.Failed, q.counts.LastFailed = q.counts.Failed+1, q.now()
	} else {
		q.counts.Sent, q.counts.LastSent = q.counts.Sent+1, q.now()
	}
	q.until = time.Time{}
}

// workers is how many messages one process sends at a time.
const workers = 4

// Run sends messages until the context ends, and returns nil. Messages that are then being sent may
// continue for some seconds. It also finds the messages of changes whose process has died, and
// deletes messages that have been dead for a week. Run it once in each process.
func (q *Queue) Run(ctx context.Context) error {
	q.mu.Lock()
	q.running = true
	q.mu.Unlock()
	var all sync.WaitGroup
	all.Go(func() { q.tidy(ctx) })
	err := q.queue.Consume(ctx, queue.Consumer{
		Handle: q.deliver, Concurrency: workers, Timeout: sendTimeout,
		Failed: func(err error) { q.log.ErrorContext(ctx, "mail", "err", err) },
	})
	all.Wait()
	q.mu.Lock()
	q.running = false
	q.mu.Unlock()
	return err
}

// tidy moves the messages of changes whose process has died, and deletes old dead ones, until the
// context ends.
func (q *Queue) tidy(ctx context.Context) {
	tick := time.NewTicker(recoverEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		err := errors.Join(q.outbox.Recover(ctx, recoverAfter), q.purge(ctx))
		if err != nil && ctx.Err() == nil {
			q.log.ErrorContext(ctx, "mail", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// purge deletes dead messages that are old, or take more than half of the room: dead ones must not
// keep others from being sent.
func (q *Queue) purge(ctx context.Context) error {
	_, old := q.queue.Purge(ctx, q.now().Add(-deadLife))
	_, many := q.queue.PurgeAllBut(ctx, q.room/2)
	return errors.Join(old, many)
}

// Due returns when to call Turn; zero: not before there is another message. It is cheap.
func (q *Queue) Due(ctx context.Context) (time.Time, error) {
	next, err := q.queue.Next(ctx)
	if err != nil {
		return next, err
	}
	announced, err := q.outbox.Announced(ctx)
	if !announced.IsZero() {
		if at := announced.Add(recoverAfter); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next, err
}

// Turn does once what Run does continuously: it sends what is due. It is for processes that do not
// run between requests.
func (q *Queue) Turn(ctx context.Context) error {
	recovered := q.outbox.Recover(ctx, recoverAfter)
	var sent error
	for sent == nil && q.cfg.Mailer != nil {
		var n int
		if n, sent = q.sendSome(ctx); n == 0 {
			break
		}
	}
	return errors.Join(recovered, sent, q.purge(ctx))
}

// kick sends what is due, where Run does not: a server without Run sends its mail too, but what
// fails then waits for the next message.
func (q *Queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.running || q.closed || q.cfg.Mailer == nil:
	case q.busy:
		q.more = true
	default:
		q.busy = true
		q.sending.Go(func() { q.sendDue(q.work) })
	}
}

// sendDue sends what is due, until nothing is.
func (q *Queue) sendDue(ctx context.Context) {
	for {
		n, err := q.sendSome(ctx)
		if err != nil {
			q.log.ErrorContext(ctx, "mail", "err", err)
		}
		q.mu.Lock()
		if n == 0 && !q.more || err != nil || ctx.Err() != nil {
			q.busy = false
			q.mu.Unlock()
			return
		}
		q.more = false
		q.mu.Unlock()
	}
}

// sendSome sends some messages that are due, and returns how many.
func (q *Queue) sendSome(ctx context.Context) (int, error) {
	jobs, err := q.queue.Receive(ctx, workers)
	results := make([]queue.Result, len(jobs))
	ended := make(chan struct{})
	var beat, all sync.WaitGroup
	beat.Go(func() { q.extend(ctx, jobs, ended) })
	for i, job := range jobs {
		all.Go(func() {
			try, cancel := context.WithTimeout(ctx, sendTimeout)
			defer cancel()
			results[i] = queue.Result{Job: job, Err: q.deliver(try, job)}
			if ctx.Err() != nil && results[i].Err != nil {
				results[i].Err = queue.ErrReleased
			}
		})
	}
	all.Wait()
	close(ended)
	beat.Wait()
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	_, err = q.queue.Finish(context.WithoutCancel(ctx), results...)
	return len(jobs), err
}

// extend extends leases until the work has ended.
func (q *Queue) extend(ctx context.Context, jobs []*queue.Job, ended <-chan struct{}) {
	leases := make([]*queue.Job, len(jobs))
	for i, j := range jobs {
		leases[i] = &queue.Job{ID: j.ID, Lease: j.Lease}
	}
	tick := time.NewTicker(lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		if _, err := q.queue.Extend(ctx, leases...); err != nil {
			q.log.ErrorContext(ctx, "mail", "err", err)
		}
	}
}

// Close sends the messages that are due, until the context ends. Call it after Run, before the
// store is closed. The next process that opens the store sends the rest.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	ended := make(chan struct{})
	go func() { q.sending.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	q.stop()
	<-ended
	for first && q.cfg.Mailer != nil && ctx.Err() == nil {
		if n, err := q.sendSome(ctx); n == 0 || err != nil {
			return
		}
	}
}
