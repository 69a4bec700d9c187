// Package jobs serves queues of package queue over HTTP, so that a process without the store can do
// jobs: a worker in another language, on another machine, or behind a firewall, since it only makes
// requests.
//
//	server.Methods.Handle(jobs.Routes(jobs.Config{
//		Queues: []*queue.Queue{thumbnails},
//		Auth:   jobs.Auth(server.Sessions.Admin, verifier, workerDID),
//	})...)
//
// The other side is a [Client], which is a queue.Source: leases are extended, results noted
// together, and handlers drained as with a queue in the same process.
//
//	client := &jobs.Client{XRPC: &xrpc.Client{Host: host, Authorize: authorize}, Queue: "thumbnails"}
//	err := queue.Consume(ctx, client, queue.Consumer{Handle: handle})
//
// # Methods
//
// All are procedures with JSON input and output. Bodies are {"$bytes": …}, times RFC 3339, delays
// whole milliseconds.
//
//	org.pdskit.queue.send     {queue, jobs: [{body, key?, id?, delay?}]}            → {ids}
//	org.pdskit.queue.lease    {queue, most?, wait?}                                 → {leaseTime, jobs}
//	org.pdskit.queue.extend   {queue, leases: [{id, lease}]}                        → {until, lost}
//	org.pdskit.queue.finish   {queue, results: [{id, lease, error?, delay?, dead?, released?}]} → {lost}
//	org.pdskit.queue.stats    {queue}                                               → counts
//
// A job of lease is {id, lease, body, key?, attempt, enqueued, until, lastError?}. Lost are IDs of
// jobs that another consumer has, or that are gone. A result without error is a success; with
// released, the job was not begun, and the attempt does not count.
//
// # Bounds
//
// A lease waits for a job for Config.MaxWait at most; it holds nothing of the store meanwhile. At
// most Config.Waiting requests wait at a time, others are answered at once. An answer has at most
// 100 jobs and no more after those whose bodies have 4 MiB together. A lease whose caller has gone
// before the answer is given back.
//
// # Errors
//
// QueueNotFound (404): there is no queue of that name. NoRoom (503): it has as many jobs as it may
// have. TooLarge (400): a job is larger than the queue allows.
package jobs
