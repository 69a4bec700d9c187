// Package queue keeps jobs that are to be done at least once, in a storage.KV: mail to send,
// servers to notify, records to index. It needs nothing but the store that is there anyway.
//
//	q, err := queue.New(queue.Config{KV: store.KV, Name: "mail"})
//	id, err := q.Send(ctx, queue.Message{Body: body})
//	err = q.Consume(ctx, queue.Consumer{Handle: func(ctx context.Context, job *queue.Job) error { … }})
//
// # At least once
//
// A job is leased to one consumer at a time. The lease ends after Config.Lease unless the consumer
// extends it, as [Queue.Consume] does while a handler runs. A job whose handler returns nil is
// gone. One whose handler fails is done again after a back-off, and one whose consumer died when
// its lease ends. So a job may be done more than once: after a crash between the work and its note.
// Handlers must bear that. A job that was tried Config.Attempts times without success is dead: it
// is kept, and can be looked at, sent again or purged.
//
// # Order
//
// Jobs are done about in the order in which they are due. Those with the same Message.Key are done
// one after the other, in the order in which they were sent, and the next one is not begun before
// the one before it is done or dead. A job with a key that waits for its back-off makes the later
// ones of its key wait. Config.PerKey lets several of a key be done at a time, and Config.Limit
// bounds how many jobs are, of all keys, in all processes.
//
// # Jobs that belong to a commit
//
// A job that must exist if, and only if, a commit does goes into the commit's own atomic change:
// see [Outbox].
//
// # Several processes
//
// All state is in the store: any number of processes may send and consume. Within a process, Send
// wakes consumers at once; they see what other processes send within Config.Poll. A process without
// the store takes jobs over HTTP: package xrpc/jobs serves a queue, and its client is a [Source].
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
//	l/µs/ID       leases, by their end, where there is a Config.Limit
//	p             is there while the queue is paused
//	o/µs/DID/RANDOM  a change with jobs that was announced: see Outbox
//	cursor        up to where in the log an Outbox has forwarded jobs
//
// A transaction of a lease or an end of a job touches some five rows, however many jobs wait.
package queue
