package durabletest

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// Watch checks that functions of transactions wait only for the object. Wrap the parts of a store
// with it: the test fails if a part is called by a goroutine that is running a transaction's
// function. Watch also measures transactions. It is safe for concurrent use.
type Watch struct {
	TB testing.TB

	mu     sync.Mutex
	within map[string]bool // goroutines in a transaction
	rows   int             // of the greatest transaction
	bytes  int
}

// goroutine names the goroutine that calls it.
func goroutine() string {
	var b [64]byte
	_, name, _ := bytes.Cut(b[:runtime.Stack(b[:], false)], []byte(" "))
	id, _, _ := bytes.Cut(name, []byte(" "))
	return string(id)
}

// Outside reports a call that is made in a transaction, for parts that the other methods do not
// wrap, such as a reader or a clock.
func (w *Watch) Outside(call string) {
	w.mu.Lock()
	within := w.within[goroutine()]
	w.mu.Unlock()
	if within {
		w.TB.Errorf("%s was called by the function of a transaction", call)
	}
}

// Max returns the greatest numbers of rows and bytes that a transaction has written or deleted.
func (w *Watch) Max() (rows, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows, w.bytes
}

// Store wraps a store whose methods must not be called in a transaction.
func (w *Watch) Store(s storage.Store) storage.Store {
	return storagetest.Faults{Before: func(method string) error {
		w.Outside(method)
		return nil
	}}.Wrap(s)
}

// Context wraps a context that must not be used in a transaction.
func (w *Watch) Context(ctx context.Context) context.Context { return watchedContext{ctx, w} }

type watchedContext struct {
	context.Context
	w *Watch
}

func (c watchedContext) Done() <-chan struct{} {
	c.w.Outside("Context.Done")
	return c.Context.Done()
}

func (c watchedContext) Err() error {
	c.w.Outside("Context.Err")
	return c.Context.Err()
}

func (c watchedContext) Value(key any) any {
	c.w.Outside("Context.Value")
	return c.Context.Value(key)
}

// Now is time.Now, but must not be called in a transaction: a clock may stand still there.
func (w *Watch) Now() time.Time {
	w.Outside("Now")
	return time.Now()
}

// Object wraps an object whose transactions are watched.
func (w *Watch) Object(o durable.Object) durable.Object { return &watchedObject{Object: o, w: w} }

type watchedObject struct {
	durable.Object
	w           *Watch
	rows, bytes int // of the transaction that runs
}

func (o *watchedObject) Transact(fn func() error) error {
	w, id := o.w, goroutine()
	return o.Object.Transact(func() error {
		o.rows, o.bytes = 0, 0
		w.mu.Lock()
		if w.within == nil {
			w.within = make(map[string]bool)
		}
		w.within[id] = true
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.within, id)
			w.rows, w.bytes = max(w.rows, o.rows), max(w.bytes, o.bytes)
		}()
		return fn()
	})
}

func (o *watchedObject) Set(key string, value []byte) error {
	o.rows++
	o.bytes += len(key) + len(value)
	return o.Object.Set(key, value)
}

func (o *watchedObject) Delete(from, to string) error {
	err := o.Object.Scan(durable.Scan{From: from, To: to}, func(key string, value []byte) bool {
		o.rows++
		o.bytes += len(key) + len(value)
		return true
	})
	if err != nil {
		return err
	}
	return o.Object.Delete(from, to)
}

// Objects wraps objects whose transactions are watched, and whose other methods must not be called
// in one. It implements durable.Marker if all does.
func (w *Watch) Objects(all durable.Objects) durable.Objects {
	if m, ok := all.(durable.Marker); ok {
		return watchedMarker{watchedObjects{all, w}, m}
	}
	return watchedObjects{all, w}
}

type watchedObjects struct {
	durable.Objects
	w *Watch
}

func (o watchedObjects) Open(ctx context.Context, did syntax.DID, create bool) (durable.Object, error) {
	o.w.Outside("Objects.Open")
	object, err := o.Objects.Open(ctx, did, create)
	if err != nil {
		return nil, err
	}
	return o.w.Object(object), nil
}

func (o watchedObjects) Remove(did syntax.DID) error {
	o.w.Outside("Objects.Remove")
	return o.Objects.Remove(did)
}

type watchedMarker struct {
	watchedObjects
	m durable.Marker
}

func (o watchedMarker) Mark(did syntax.DID) error {
	o.w.Outside("Marker.Mark")
	return o.m.Mark(did)
}

func (o watchedMarker) Unmark(did syntax.DID) error {
	o.w.Outside("Marker.Unmark")
	return o.m.Unmark(did)
}

func (o watchedMarker) Marked() []syntax.DID { return o.m.Marked() }
