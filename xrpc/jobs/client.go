package jobs

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc"
)

// Client takes jobs from a queue on another server. It is a [queue.Source], and safe for concurrent
// use. XRPC and Queue are required.
//
// A request whose response is lost may have taken effect. Jobs that it has leased are leased again
// when their leases end.
type Client struct {
	// XRPC calls the server. The timeout of its HTTP client must be longer than Wait.
	XRPC *xrpc.Client
	// Queue is the name of the queue.
	Queue string
	// Wait bounds how long one request waits for jobs. The server has a bound too. 0: 20 seconds.
	Wait time.Duration

	leaseTime atomic.Int64 // milliseconds; 0: not known yet
}

var _ queue.Source = (*Client)(nil)

// Send sends jobs and returns their IDs. Choose the IDs of messages, so that a failed request can
// be repeated safely.
func (c *Client) Send(ctx context.Context, messages ...queue.Message) (ids []string, err error) {
	in := sendInput{Queue: c.Queue, Jobs: make([]message, len(messages))}
	for i, m := range messages {
		in.Jobs[i] = message{Body: m.Body, Key: m.Key, ID: m.ID, Delay: m.Delay.Milliseconds()}
	}
	var out sendOutput
	err = c.XRPC.Procedure(ctx, sendMethod, in, &out)
	return out.IDs, err
}

// Take leases up to n jobs: see [queue.Source].
func (c *Client) Take(ctx context.Context, n int, wait time.Duration) ([]*queue.Job, error) {
	n = min(n, maxItems)
	most := c.Wait
	if most == 0 {
		most = 20 * time.Second
	}
	in := leaseInput{Queue: c.Queue, Most: n, Wait: min(wait, most).Milliseconds()}
	begin := time.Now()
	var out leaseOutput
	if err := c.XRPC.Procedure(ctx, leaseMethod, in, &out); err != nil {
		return nil, err
	}
	if len(out.Jobs) > n {
		return nil, fmt.Errorf("jobs: the server has leased %d jobs, more than the %d it was asked for", len(out.Jobs), n)
	}
	c.leaseTime.Store(out.LeaseTime)
	var list []*queue.Job
	for _, j := range out.Jobs {
		list = append(list, &queue.Job{
			ID: j.ID, Lease: j.Lease, Body: j.Body, Key: j.Key, Attempt: j.Attempt, Enqueued: j.Enqueued, Until: j.Until, LastError: j.LastError,
		})
	}
	if len(list) == 0 { // at once, as from a server on which too many wait
		sleep.For(ctx, min(wait, time.Second)-time.Since(begin))
	}
	return list, nil
}

// Extend extends leases to LeaseTime from now, sets their Until, and returns the jobs whose leases
// were lost.
func (c *Client) Extend(ctx context.Context, jobs ...*queue.Job) (lost []*queue.Job, err error) {
	for len(jobs) > 0 {
		part := jobs[:min(len(jobs), maxItems)]
		jobs = jobs[len(part):]
		in := extendInput{Queue: c.Queue, Leases: make([]lease, len(part))}
		for i, j := range part {
			in.Leases[i] = lease{j.ID, j.Lease}
		}
		var out extendOutput
		if err := c.XRPC.Procedure(ctx, extendMethod, in, &out); err != nil {
			return nil, err
		}
		gone := setOf(out.Lost)
		for _, j := range part {
			if gone[j.ID] {
				lost = append(lost, j)
			} else {
				j.Until = out.Until
			}
		}
	}
	return lost, nil
}

// Finish records results: see [queue.Queue.Finish].
func (c *Client) Finish(ctx context.Context, results ...queue.Result) (errs []error, err error) {
	for len(results) > 0 {
		part := results[:min(len(results), maxItems)]
		results = results[len(part):]
		in := finishInput{Queue: c.Queue, Results: make([]result, len(part))}
		for i, r := range part {
			in.Results[i] = resultOf(r)
		}
		var out finishOutput
		if err := c.XRPC.Procedure(ctx, finishMethod, in, &out); err != nil {
			return nil, err
		}
		gone := setOf(out.Lost)
		for _, r := range part {
			if gone[r.Job.ID] {
				errs = append(errs, queue.ErrLeaseLost)
			} else {
				errs = append(errs, nil)
			}
		}
	}
	return errs, nil
}

// LeaseTime returns how long a lease lasts, as the server has reported; a second before the first
// response.
func (c *Client) LeaseTime() time.Duration {
	if ms := c.leaseTime.Load(); ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return time.Second
}

// Stats counts the jobs of the queue.
func (c *Client) Stats(ctx context.Context) (st queue.Stats, err error) {
	var out statsOutput
	err = c.XRPC.Procedure(ctx, statsMethod, statsInput{c.Queue}, &out)
	st = queue.Stats{Due: out.Due, Later: out.Later, Behind: out.Behind, Dead: out.Dead, Paused: out.Paused}
	if out.Oldest != nil {
		st.Oldest = *out.Oldest
	}
	return st, err
}

// maxError bounds the text of an error that is sent.
const maxError = 1000

func resultOf(r queue.Result) result {
	out := result{ID: r.Job.ID, Lease: r.Job.Lease}
	switch r.Err {
	case nil:
		return out
	case queue.ErrReleased:
		out.Released = true
		return out
	}
	text := r.Err.Error()
	out.Error = text[:min(len(text), maxError)]
	dead, after, set := queue.Outcome(r.Err)
	if out.Dead = dead; set {
		ms := max(after, 0).Milliseconds()
		out.Delay = &ms
	}
	return out
}

func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, x := range list {
		set[x] = true
	}
	return set
}
