// Package durable keeps one object per account, in the manner of Durable
// Objects: each has a store of its own, one writer, an alarm, and is in memory only
// while it is used. What all objects share, the event log first of all, is behind a [Directory].
//
//	DB ───── cache of open objects ──▶ Object     one per account: records, keys, outbox
//	   └──── Directory ──────────────▶ the event log and the heads of all accounts, and an
//	                                   index of alarms: in any storage.Store, or far away
//
//	Solo ──────────────────────────▶ Object       a whole store: accounts, log, host's keys
//
// A [DB] is for hosts of many accounts that are to be apart from each other. A [Solo] is for a host
// that has one object: a Durable Object with its own account, or the one that is the directory of
// others. Both implement the contract of package storage; blobs are elsewhere.
//
// # Objects
//
// An [Object] is an ordered map of keys to values with transactions; six methods that the SQL of a
// Cloudflare Durable Object can serve as well as package files does with one SQLite file per
// account, or [Memory] does for tests. It need not offer snapshots: while a View is open, the core
// keeps what changes overwrite, so that views do not hold up writers. The function of a transaction
// waits for nothing but its object; package durabletest checks objects, and whoever uses them.
//
// Idle objects are closed when more than Config.MaxOpen are open (hibernation).
// An account that is not in use costs a file and no memory. At rest there are no goroutines and no
// timers, which would keep a Durable Object awake.
//
// # A change of a DB
//
// A change of an account is two transactions:
//
//  1. in its object: head, records, references, keys, and an outbox that holds
//     the change's events;
//  2. in the directory: the events, the account's head, and the
//     number of the outbox, if it is the next.
//
// The change has happened when the second is done. Between the two nobody can see the object (the
// output gate): views begin, heads are read and events are seen only after it. If the second fails,
// or the process ends before it, it is made up for before the object is used again, at the latest
// when the DB is opened: the number in the directory says whether it was carried out. So each
// event is in the log exactly once, and those of an account are in order.
//
// A change of a Solo is one transaction.
//
// # Who owns what
//
//	DB.mu       the map of open objects, the list of idle ones, how many use an object
//	   acquire ──▶ an object stays open until release
//	turn        of an object: one at a time writes, or begins a view. With it go the object's phase,
//	            the account's state as it is known, and, for a DB, calls of the directory.
//	   Solo.logMu  held by a transaction that deletes events, so that readers of the log wait for it
//	      core.mu     one call of the store, and the values that views keep; reads of views come
//	                  between the calls of a transaction
//	Solo.pos    how far the log is committed: readers of the log go up to there, without the turn
//
// Locks are taken from the left to the right of this drawing: who has the turn may take logMu, and
// then core.mu. DB.mu and Solo.pos are held for moments, with no other lock taken while they are.
// Nobody waits for a directory, a caller's function or a timer with any of them but the turn, and
// nobody calls a function of the caller with the turn, but for that of a Solo's KV.Write, and
// SoloConfig.Schedule.
//
// An object is in one phase of these at a time:
//
//	opening ──▶ unknown ──▶ settled ──▶ owing      settled: all is known, a change may begin
//	   │         ▲  ▲ └──────▶│ ▲ │        │ │     owing: a change is in the object, and the
//	   │         │  │         │ └─┼────────┘ │            directory may not know of it yet
//	   │         │  └─────────┼───┼──────────┘     unknown: state and directory are to be read
//	   │         └─ doubtful ◀┘   │                doubtful: a commit failed; the store is to be
//	   ▼                          ▼                          opened again
//	 gone ◀─────────────────── closing             closing: from any of the four, when nobody uses it
//
// The table "transitions" in phase.go has them all, and no other is possible.
//
// # Replace and Delete
//
// The records of an account, and its keys, are in numbered sets. Replace fills a set of its own, in
// transactions of some thousands of rows and a few megabytes, and reads its stream between them; a
// last, small one makes the set the account's. Delete gives the account empty sets. What is loose
// then is deleted in pieces, by later changes too, once no view reads it.
//
// # Alarms
//
// An account's key AlarmKey is the time at which Alarms.Call is called for it, at least once; it is
// set by a change like any other key (see SetAlarm) and survives restarts. Whoever has to wake up
// for it is told before the change is made. Alarms are called side by side, up to a bound, and for
// none longer than a timeout. Somebody must call Run, or FireAlarms from time to time.
//
// # Which backend
//
// Package sqlite keeps all accounts in one file. That is faster when many accounts
// write at once (their changes share a disk flush) and simpler to run. This package
// isolates accounts: one can be moved, restored or deleted as a file, a broken file breaks one
// account, and the size of the database of one account does not matter to
// others.
package durable
