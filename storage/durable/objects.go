package durable

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Objects opens the stores of objects. It is safe for concurrent use; no object is
// open twice at a time.
type Objects interface {
	// Open opens the store of an account. If there is none it is made, or, without
	// create, the error is storage.ErrNotFound.
	Open(ctx context.Context, did syntax.DID, create bool) (Object, error)
	// Remove deletes the store of an account, which is not open.
	Remove(did syntax.DID) error
}

// Object is an ordered map of keys to values with transactions: the store of one account, or, for a
// [Solo], of everything. Keys and values are any bytes, but no key is empty. Keys are in byte
// order. Package durabletest checks what is said here.
//
// It is safe for concurrent use, but Set and Delete are called only from within Transact, and there
// is one Transact at a time; while it runs, Get and Scan, wherever they are called, see what it has
// written so far.
//
// # The function of a transaction waits for nothing but the object
//
// While the function of Transact runs, it calls methods of the object and computes; it reads no
// stream, asks no other store, takes no lock that is held over such a wait, and waits for no timer,
// channel or context. In a Durable Object the event loop stands still meanwhile, and with it the
// clock: a function that waited for a promise or a timer would never go on. Over files it would
// hold a write lock for as long as somebody else likes. Methods of the object, in turn, call
// nothing but their function and the store below.
//
// A transaction that this package makes writes or deletes some thousands of keys and some megabytes
// at most, besides what one change of an account says itself.
type Object interface {
	// Get returns a value, which is the caller's, or storage.ErrNotFound.
	Get(key string) ([]byte, error)
	// Scan calls fn with the pairs of a range until fn returns false. The value is good until fn
	// returns. fn does not call the object.
	Scan(s Scan, fn func(key string, value []byte) bool) error
	// Set stores a value, which it copies; nil is the empty value. A key of more than MaxKey bytes
	// or a value of more than MaxValue gives ErrTooLarge and changes nothing; all up to that are
	// stored.
	Set(key string, value []byte) error
	// Delete removes a range of keys, in which there may be none: from inclusive, to exclusive; an
	// empty to is no bound.
	Delete(from, to string) error
	// Transact calls fn, and makes what it has set and deleted durable, all or nothing, if it
	// returns nil; else it undoes that and returns fn's error. If fn panics, it undoes that too,
	// and the panic goes on. After another error of Transact it is unknown what is stored.
	Transact(fn func() error) error
	// Close closes the store.
	Close() error
}

// Scan selects pairs of an object, and how much of them is wanted.
type Scan struct {
	From, To string // from inclusive, to exclusive; an empty To is no bound
	Reverse  bool   // from the greatest key to the least
	// Rows is how many pairs are wanted at most. 0: all. So an object that reads ahead, because
	// calls are dear, knows when to stop.
	Rows int
	// MaxValue cuts values to their first bytes. 0: they are whole; KeysOnly: they are empty, and
	// are not read.
	MaxValue int
}

// KeysOnly is Scan.MaxValue if no values are wanted.
const KeysOnly = -1

// What an Object takes: the row of a Durable Object's table has 2,000,000 bytes at most, key and
// value together. Longer values are stored in several rows.
const (
	MaxKey   = 64 << 10
	MaxValue = 1_900_000
)

// ErrTooLarge is returned by Object.Set: see MaxKey and MaxValue.
var ErrTooLarge = errors.New("durable: key or value is too large")

// Marker is implemented by Objects that remember which objects are in the middle
// of a step, should the process be killed. Then New completes their steps.
// Without, that happens when they are used the next time.
type Marker interface {
	// Mark notes an account, if it is not noted yet. The note need not survive a power
	// failure.
	Mark(did syntax.DID) error
	// Unmark takes the note back, if there is one.
	Unmark(did syntax.DID) error
	// Marked returns the accounts that are marked, also by an earlier process.
	Marked() []syntax.DID
}
