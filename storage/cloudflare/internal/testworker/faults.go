//go:build js

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/cloudflare/internal/testpds"
	"github.com/pdskit/pdskit/storage/durable"
)

// maxRow is the most that key and value of a row have on Cloudflare. workerd does not enforce it.
const maxRow = 2_000_000

// faults end the program at a call of the object.
type faults struct {
	host   *cloudflare.Host
	before bool
	left   int // calls; 0: none is chosen
}

// owedKey is the key, in the context of a request, of a header that begins with "owed": what the
// request delivers to the directory fails, or with "owed aborted" the object ends before. The alarm,
// which may go off before the request is answered, does deliver.
type owedKey struct{}

// handler chooses the call by a header such as "before 3", for the time of one request.
func (f *faults) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		when, n, _ := strings.Cut(r.Header.Get("X-Test-Abort"), " ")
		f.before, f.left = when == "before", testpds.Number(n)
		if when == "owed" {
			r = r.WithContext(context.WithValue(r.Context(), owedKey{}, r.Header.Get("X-Test-Abort")))
		}
		next.ServeHTTP(w, r)
		f.left = 0
	})
}

// abort ends the object, as the platform may do at any time.
func (f *faults) abort() { f.host.Value("ctx").Call("abort", "by the test") }

// call is one call of the object.
func (f *faults) call(do func()) {
	if f.left > 0 {
		f.left--
		if f.left == 0 {
			if !f.before {
				do()
			}
			f.abort()
		}
	}
	do()
}

// faulty is an object whose calls can be the last of the program, and which takes no row that is
// too large.
type faulty struct {
	durable.Object
	f *faults
}

func (o faulty) Get(key string) (b []byte, err error) {
	o.f.call(func() { b, err = o.Object.Get(key) })
	return b, err
}

func (o faulty) Scan(s durable.Scan, fn func(string, []byte) bool) (err error) {
	o.f.call(func() { err = o.Object.Scan(s, fn) })
	return err
}

func (o faulty) Set(key string, value []byte) (err error) {
	if len(key)+len(value) > maxRow {
		panic(fmt.Sprintf("a row of %d bytes", len(key)+len(value)))
	}
	o.f.call(func() { err = o.Object.Set(key, value) })
	return err
}

func (o faulty) Delete(from, to string) (err error) {
	o.f.call(func() { err = o.Object.Delete(from, to) })
	return err
}

func (o faulty) Transact(fn func() error) (err error) {
	o.f.call(func() { err = o.Object.Transact(fn) })
	return err
}

// faultyObjects opens faulty objects.
type faultyObjects struct {
	durable.Objects
	durable.Marker
	f *faults
}

func (o faultyObjects) Open(ctx context.Context, did syntax.DID, create bool) (durable.Object, error) {
	s, err := o.Objects.Open(ctx, did, create)
	return faulty{s, o.f}, err
}

// faultyDirectory is a directory whose calls can be the last of the program.
type faultyDirectory struct {
	durable.Directory
	f *faults
}

func (d faultyDirectory) Entry(ctx context.Context, did syntax.DID) (head storage.Head, number uint64, err error) {
	d.f.call(func() { head, number, err = d.Directory.Entry(ctx, did) })
	return head, number, err
}

func (d faultyDirectory) Deliver(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error) {
	if owed, ok := ctx.Value(owedKey{}).(string); ok {
		// The platform carries out what was written before, unless the object ends first.
		_, _ = d.f.host.Wait(ctx, d.f.host.Value("ctx").Get("storage").Call("sync"))
		if owed == "owed aborted" {
			d.f.abort()
		}
		return 0, errors.New("failed by the test")
	}
	d.f.call(func() { seq, err = d.Directory.Deliver(ctx, did, c) })
	return seq, err
}
