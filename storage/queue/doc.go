// Package queue is a job queue with at-least-once delivery in a [storage.KV]: mail to send, servers
// to notify, records to index. It needs only the store that a host has anyway.
//
//	q, err := queue.New(queue.Config{KV: store.KV, Name: "mail"})
//	id, err := q.Send(ctx, queue.Message{Body: body})
//	err = q.Consume(ctx, queue.Consumer{Handle: func(ctx context.Context, job *queue.Job) error { … }})
//
// # At least once
//
// A job is leased to one consumer at a time. The lease ends after Config.Lease unless the consumer
// extends it, as [Queue.Consume] does while a handler runs. A job whose handler returns nil is
// deleted. If the handler fails, the job is tried again after a back-off. If the consumer dies, it
// is tried again when its lease ends. So a job may be done more than once, for example after a
// crash between the work and its recording; handlers must tolerate that. A job that has failed
// Config.Attempts times is dead: it is kept, and can be inspected, requeued or purged.
//
// # Order
//
// Jobs are done roughly in the order in which they are due. Jobs with the same Message.Key are done
// one after another, in the order in which they were sent: the next one does not begin before the
// previous one is done or dead, and waits for its back-off too. Config.PerKey allows several jobs
// of a key at a time. Config.Limit bounds the concurrent jobs of all keys in all processes.
//
// # Jobs that belong to a commit
//
// A job that must exist if and only if a commit does is written in the commit's own atomic change:
// see [Outbox].
//
// # Several processes
//
// All state is in the store, so any number of processes may send and consume. Within a process,
// Send wakes consumers at once. Jobs of other processes are found within Config.Poll. A process
// without the store takes jobs over HTTP: package xrpc/jobs serves a queue, and its client is a
// [Source].
//
// # Rows
//
// All keys begin with "queue/NAME/"; µs is a time in microseconds, of 20 digits:
//
//	r/µs/ID       when a job can be leased: it is due, or its lease ends
//	m/ID          the job
//	b/ID          its body, if it is long
//	k/KEY/N       the jobs with a key, numbered; only the first one has a row under r
//	d/µs/ID       dead jobs, by the time of their death
//	i/ID          IDs that senders have chosen, until they expire
//	l/µs/ID       leases, by their end, if there is a Config.Limit
//	p             is there while the queue is paused
//	o/µs/DID/RANDOM  a change with jobs that was announced: see Outbox
//	cursor        up to where in the log an Outbox has forwarded jobs
//
// The transaction that leases or finishes a job touches some five rows, however many jobs wait.
package queue
