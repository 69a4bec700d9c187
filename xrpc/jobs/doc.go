// Package jobs serves queues of package queue over HTTP, so that a process without the store can do
// jobs: a worker in another language, on another machine, or behind a firewall, since it only makes
// requests.
//
//	server.Methods.Handle(jobs.Routes(jobs.Config{
//		Queues: []*queue.Queue{thumbnails},
//		Auth:   jobs.Auth(server.Sessions.Admin, verifier, workerDID),
//	})...)
//
// The other side is a [Client], which is a queue.Source. It extends leases, records results in
// batches, and drains handlers like a queue in the same process.
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
// A job of lease is {id, lease, body, key?, attempt, enqueued, until, lastError?}. lost has the IDs
// of jobs that another consumer has, or that no longer exist. A result without an error is a
// success. With released, the job was not begun, and the attempt does not count.
//
// # Bounds
//
// A lease request waits for a job for at most Config.MaxWait, and holds no resources of the store
// meanwhile. At most Config.Waiting requests wait at a time; others get an empty response at once.
// A response has at most 100 jobs, and no more once their bodies have 4 MiB in total. If the caller
// has disconnected before the response, the leases are released.
//
// # Errors
//
// QueueNotFound (404): there is no queue with that name. NoRoom (503): the queue is full. TooLarge
// (400): a job is larger than the queue allows.
package jobs
