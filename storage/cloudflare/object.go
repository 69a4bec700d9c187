//go:build js

package cloudflare

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall/js"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

const (
	// pageBytes is how many bytes of a scan cross at a time; the last row may go beyond.
	pageBytes = 512 << 10
	// pageRows is how many rows of a scan cross at a time, if it does not say how many it wants.
	pageRows = 256
	// writeBytes is how many bytes of writes are collected before they cross.
	writeBytes = 256 << 10
)

// Object implements [durable.Object] in a table of the Durable Object's SQLite.
type Object struct {
	host *Host

	get, scan, write js.Value

	// Guarded by host.turn.
	within  bool   // a transaction runs
	writes  []byte // of the transaction, not carried out yet
	recent  recent
	scratch []byte
}

var _ durable.Object = (*Object)(nil)

// Object opens a table of the object, and creates it if necessary. Its name has letters, digits and
// "_". An object may have several tables. All are in one database, so their transactions run one
// after another, and must not be nested. Do not write a table outside of transactions.
func (h *Host) Object(table string) (*Object, error) {
	if table == "" || len(table) > 64 || strings.ContainsFunc(table, notInTable) {
		return nil, fmt.Errorf("cloudflare: %.100q cannot be the name of a table", table)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.tables[table]; o != nil {
		return o, nil
	}
	t, err := try(func() js.Value { return h.object.Call("table", table) })
	if err != nil {
		return nil, err
	}
	o := &Object{host: h, get: t.Get("get"), scan: t.Get("scan"), write: t.Get("write")}
	h.tables[table] = o
	return o, nil
}

func notInTable(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_')
}

// Get implements durable.Object.
func (o *Object) Get(key string) ([]byte, error) {
	o.host.transfer.Lock()
	defer o.host.transfer.Unlock()
	if value, there, known := o.recent.get(key); known {
		if !there {
			return nil, storage.ErrNotFound
		}
		return value, nil
	}
	if err := o.flush(); err != nil {
		return nil, err
	}
	o.scratch = append(o.scratch[:0], key...)
	o.host.put(o.scratch)
	n, err := try(func() js.Value { return o.get.Invoke(len(key)) })
	switch {
	case err != nil:
		return nil, err
	case n.Int() < 0:
		o.recent.keep(key, nil, false)
		return nil, storage.ErrNotFound
	}
	value := o.host.take(n.Int())
	o.recent.keep(key, value, true)
	return value, nil
}

// Scan implements durable.Object. It reads pages ahead, but not more rows than the scan wants.
func (o *Object) Scan(s durable.Scan, fn func(key string, value []byte) bool) error {
	for left := s.Rows; ; {
		rows := pageRows
		if s.Rows > 0 {
			rows = min(rows, left)
		}
		page, more, err := o.page(s, rows)
		if err != nil {
			return err
		}
		last := ""
		for len(page) > 0 {
			var key, value []byte
			if key, value, page, err = nextPair(page); err != nil {
				return err
			}
			last = string(key)
			left--
			if !fn(last, value) {
				return nil
			}
		}
		switch {
		case !more || s.Rows > 0 && left == 0:
			return nil
		case s.Reverse:
			s.To = last
		default:
			s.From = last + "\x00"
		}
	}
}

// page reads some pairs, and reports whether there are more.
func (o *Object) page(s durable.Scan, rows int) (bytes []byte, more bool, err error) {
	o.host.transfer.Lock()
	defer o.host.transfer.Unlock()
	if p, known := o.recent.find(s, rows); known {
		return p.bytes, p.more, nil
	}
	if err := o.flush(); err != nil {
		return nil, false, err
	}
	o.scratch = append(append(o.scratch[:0], s.From...), s.To...)
	o.host.put(o.scratch)
	n, err := try(func() js.Value {
		return o.scan.Invoke(len(s.From), len(s.To), s.Reverse, rows, s.MaxValue, pageBytes)
	})
	if err != nil {
		return nil, false, err
	}
	size := n.Int()
	if size < 0 {
		size, more = -size, true
	}
	bytes = o.host.take(size)
	o.recent.add(scanned{s, rows, bytes, more})
	return bytes, more, nil
}

// Set implements durable.Object.
func (o *Object) Set(key string, value []byte) error {
	if len(key) > durable.MaxKey || len(value) > durable.MaxValue {
		return fmt.Errorf("%w: %d and %d bytes", durable.ErrTooLarge, len(key), len(value))
	}
	o.host.transfer.Lock()
	defer o.host.transfer.Unlock()
	o.recent.set(key, value)
	o.writes = appendOp(o.writes, opSet, key, value)
	return o.flushLarge()
}

// Delete implements durable.Object.
func (o *Object) Delete(from, to string) error {
	o.host.transfer.Lock()
	defer o.host.transfer.Unlock()
	o.recent.delete(from, to)
	o.writes = appendOp(o.writes, opDelete, from, to)
	return o.flushLarge()
}

func (o *Object) flushLarge() error {
	if len(o.writes) < writeBytes {
		return nil
	}
	return o.flush()
}

// flush carries out the writes that were collected. The caller has the turn.
func (o *Object) flush() error {
	if len(o.writes) == 0 {
		return nil
	}
	o.host.put(o.writes)
	n := len(o.writes)
	if o.writes = o.writes[:0]; cap(o.writes) > 2*writeBytes {
		o.writes = nil
	}
	_, err := try(func() js.Value { return o.write.Invoke(n) })
	if err != nil {
		o.recent.forget()
	}
	return err
}

// Transact implements durable.Object. When it returns nil, the transaction is durable as far as
// anybody outside can see: the platform holds back everything that leaves the object until it is
// (the output gate).
func (o *Object) Transact(fn func() error) (err error) {
	if err := o.begin(); err != nil {
		return err
	}
	o.host.exclusive.Lock()
	defer o.host.exclusive.Unlock()
	var (
		failed   error
		panicked any
		returned bool
	)
	body := js.FuncOf(func(js.Value, []js.Value) any {
		done := make(chan struct{})
		// In a goroutine of its own, since one that ends while JavaScript waits would never return
		// there.
		go func() {
			defer close(done)
			defer func() {
				if !returned {
					panicked = recover()
				}
			}()
			failed = fn()
			if failed == nil {
				o.host.transfer.Lock()
				failed = o.flush()
				o.host.transfer.Unlock()
			}
			returned = true
		}()
		<-done
		return returned && failed == nil
	})
	defer body.Release()
	_, err = try(func() js.Value { return o.host.transact.Invoke(body) })
	o.host.transfer.Lock()
	o.within, o.writes = false, o.writes[:0]
	if !returned || failed != nil || err != nil {
		o.recent.forget()
	}
	o.host.transfer.Unlock()
	switch {
	case panicked != nil:
		panic(panicked)
	case !returned && err == nil:
		runtime.Goexit() // as fn has done
	case failed != nil:
		return failed
	}
	return err
}

var errNested = errors.New("cloudflare: a transaction in a transaction")

func (o *Object) begin() error {
	o.host.transfer.Lock()
	defer o.host.transfer.Unlock()
	if o.within {
		return errNested
	}
	o.within = true
	return nil
}

// Close implements durable.Object. It does nothing: tables exist as long as the object.
func (o *Object) Close() error { return nil }
