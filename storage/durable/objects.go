package durable

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Objects opens the stores of objects. It is safe for concurrent use. No object is opened twice at
// a time.
type Objects interface {
	// Open opens the store of an account. If there is none, it is created, or the error is
	// storage.ErrNotFound if create is false.
	Open(ctx context.Context, did syntax.DID, create bool) (Object, error)
	// Remove deletes the store of an account. It must not be open.
	Remove(did syntax.DID) error
}

// Object is an ordered map of keys to values with transactions. It is the store of one account or,
// for a [Solo], of everything. Keys are non-empty strings of any bytes, in byte order. Values are
// any bytes. Package durabletest checks this contract.
//
// Methods may be called concurrently. Set and Delete are called only inside Transact. Only one
// Transact runs at a time. While it runs, all calls of Get and Scan see its writes so far.
//
// # The function of a transaction waits only for the object
//
// The function of Transact calls methods of the object and computes. It reads no stream, calls no
// other store, and waits for no timer, channel or context. It takes no lock that is held during
// such a wait. In a Durable Object the event loop stands still during the function, and the clock
// too: a function that waited for a promise or a timer would never continue. With files it would
// hold a write lock for as long as it waits. The methods of the object, in turn, call only their
// function and the store below.
//
// A transaction of this package writes or deletes at most some thousands of keys and some
// megabytes, in addition to the content of one change.
type Object interface {
	// Get returns a value, which is the caller's, or storage.ErrNotFound.
	Get(key string) ([]byte, error)
	// Scan calls fn with the pairs of a range until fn returns false. The value is valid until fn
	// returns. fn must not call the object.
	Scan(s Scan, fn func(key string, value []byte) bool) error
	// Set stores a copy of a value; nil is the empty value. A key longer than MaxKey or a value
	// longer than MaxValue gives ErrTooLarge and changes nothing. All others are stored.
	Set(key string, value []byte) error
	// Delete removes the keys of a range, which may be empty: from is inclusive, to is exclusive.
	// An empty to means no upper bound.
	Delete(from, to string) error
	// Transact calls fn. If fn returns nil, all its writes become durable together. If fn returns
	// an error or panics, they are undone, and Transact returns the error or panics. After any
	// other error of Transact, it is unknown what is stored.
	Transact(fn func() error) error
	Close() error
}

// Scan selects pairs of an object, and how much of them to return.
type Scan struct {
	From, To string // from inclusive, to exclusive; an empty To is no bound
	Reverse  bool   // from the greatest key to the least
	// Rows is the maximum number of pairs that are needed. 0: all. It tells an object that reads
	// ahead when to stop.
	Rows int
	// MaxValue truncates values to this length. 0: values are complete. KeysOnly: values are empty
	// and not read.
	MaxValue int
}

// KeysOnly is the value of Scan.MaxValue that asks for no values.
const KeysOnly = -1

// Limits of an Object. The row of a Durable Object's table has at most 2,000,000 bytes, key and
// value together. Longer values are stored in several rows.
const (
	MaxKey   = 64 << 10
	MaxValue = 1_900_000
)

// ErrTooLarge is returned by Object.Set: see MaxKey and MaxValue.
var ErrTooLarge = errors.New("durable: key or value is too large")

// Marker is an optional interface of Objects: it remembers, across restarts, which objects have an
// unfinished change. New then completes those changes. Without it, a change is completed when its
// account is next used.
type Marker interface {
	// Mark marks an account. The mark need not survive a power failure.
	Mark(did syntax.DID) error
	// Unmark removes the mark, if there is one.
	Unmark(did syntax.DID) error
	// Marked returns the marked accounts, including those marked by an earlier process.
	Marked() []syntax.DID
}
