// Package durable keeps one object per account, in the manner of Durable
// Objects: each has a store of its own, one writer, an alarm, and is in memory only
// while it is used. What all objects share, the event log first of all, is in a
// shared store.
//
//	DB ───── cache of open objects ──▶ Object (one per account: records, keys, outbox)
//	   └──── shared storage.Store ───▶ event log, directory of heads, host's keys, blobs
//
// # A step
//
// A step of an account is two transactions:
//
//  1. in its object: head, records, references, keys, and an outbox that holds
//     the step's events;
//  2. in the shared store: the events, the account's head in the directory, and the
//     number of the outbox, if it is the next.
//
// The step has happened when the second is done. Between the two nobody can see the object (the
// output gate): views begin, heads are read and events are seen only after it. If the second fails,
// or the process ends before it, it is made up for before the object is used again, at the latest
// when the DB is opened: the number in the shared store says whether it was carried out. So each
// event is in the log exactly once, and those of an account are in order.
//
// # Objects
//
// An Object is an ordered map of keys to values with transactions; six methods that the
// SQL of a Cloudflare Durable Object can serve as well as package files does with one SQLite file
// per account, or [Memory] does for tests. It need not offer snapshots: while a View is open, the DB keeps what
// steps overwrite, so that views do not hold up writers.
//
// Idle objects are closed when more than Config.MaxOpen are open (hibernation).
// An account that is not in use costs a file and no memory.
//
// # Alarms
//
// An account's key AlarmKey is the time at which Config.Alarm is called for it, at
// least once; it is set by a step like any other key (see SetAlarm) and survives
// restarts. Somebody must run DB.Run, or call DB.FireAlarms from time to time.
//
// # Which backend
//
// Package sqlite keeps all accounts in one file. That is faster when many accounts
// write at once (their steps share a disk flush) and simpler to run. This package
// isolates accounts: one can be moved, restored or deleted as a file, a broken file breaks one
// account, and the size of the database of one account does not matter to
// others.
package durable
