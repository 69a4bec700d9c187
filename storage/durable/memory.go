package durable

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Memory is a set of objects in memory, for tests. Data outlives the objects, as on disk, and is
// lost with the Memory. The zero value is empty and ready for use. It is safe for concurrent use.
type Memory struct {
	// Fault, if not nil, makes calls fail. It is called before "Get", "Scan", "Set", "Delete" and
	// "Commit", and as "Committed" after a commit: an error then leaves the transaction durable.
	Fault func(call string) error

	mu    sync.Mutex
	data  map[syntax.DID]pmap.Map[[]byte]
	open  map[syntax.DID]bool
	marks map[syntax.DID]bool
}

var _ interface {
	Objects
	Marker
} = (*Memory)(nil)

func (m *Memory) fault(call string) error {
	if m.Fault != nil {
		return m.Fault(call)
	}
	return nil
}

// Open implements Objects. It is an error if the object is already open.
func (m *Memory) Open(_ context.Context, did syntax.DID, create bool) (Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[did] {
		return nil, fmt.Errorf("durable: the object of %s is open already", did)
	}
	if _, ok := m.data[did]; !ok {
		if !create {
			return nil, storage.ErrNotFound
		}
		if m.data == nil {
			m.data = make(map[syntax.DID]pmap.Map[[]byte])
		}
		m.data[did] = pmap.Map[[]byte]{}
	}
	if m.open == nil {
		m.open = make(map[syntax.DID]bool)
	}
	m.open[did] = true
	return &memoryObject{all: m, did: did, now: m.data[did]}, nil
}

// Remove implements Objects.
func (m *Memory) Remove(did syntax.DID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[did] {
		return fmt.Errorf("durable: the object of %s is open", did)
	}
	delete(m.data, did)
	return nil
}

// Mark implements Marker.
func (m *Memory) Mark(did syntax.DID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.marks == nil {
		m.marks = make(map[syntax.DID]bool)
	}
	m.marks[did] = true
	return nil
}

// Unmark implements Marker.
func (m *Memory) Unmark(did syntax.DID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.marks, did)
	return nil
}

// Marked implements Marker.
func (m *Memory) Marked() (list []syntax.DID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for did := range m.marks {
		list = append(list, did)
	}
	return list
}

// Kill simulates the death of the process: all objects are closed.
func (m *Memory) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.open)
}

// memoryObject is an object in memory.
type memoryObject struct {
	all *Memory
	did syntax.DID

	mu     sync.Mutex
	now    pmap.Map[[]byte]
	within bool // a transaction runs
}

func (o *memoryObject) Get(key string) ([]byte, error) {
	if err := o.all.fault("Get"); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if v, ok := o.now.Get(key); ok {
		return append([]byte{}, v...), nil
	}
	return nil, storage.ErrNotFound
}

func (o *memoryObject) Scan(s Scan, fn func(string, []byte) bool) error {
	if err := o.all.fault("Scan"); err != nil {
		return err
	}
	o.mu.Lock()
	now := o.now
	o.mu.Unlock()
	var value []byte // good until fn returns
	n := 0
	for key, v := range now.Range(s.From, s.To, s.Reverse) {
		value = append(value[:0], s.Cut(v)...)
		if n++; !fn(key, value) || n == s.Rows {
			return nil
		}
	}
	return nil
}

// Cut returns the first bytes of a value, at most [Scan].MaxValue.
func (s Scan) Cut(value []byte) []byte {
	if s.MaxValue == 0 {
		return value
	}
	return value[:min(len(value), max(0, s.MaxValue))]
}

// write is a change of the map, in a transaction.
func (o *memoryObject) write(call string, fn func()) error {
	if err := o.all.fault(call); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.within {
		return fmt.Errorf("durable: %s outside of a transaction", call)
	}
	fn()
	return nil
}

func (o *memoryObject) Set(key string, value []byte) error {
	if len(key) > MaxKey || len(value) > MaxValue {
		return fmt.Errorf("%w: %d and %d bytes", ErrTooLarge, len(key), len(value))
	}
	return o.write("Set", func() { o.now = o.now.Set(key, append([]byte{}, value...)) })
}

func (o *memoryObject) Delete(from, to string) error {
	return o.write("Delete", func() {
		before := o.now
		for key := range before.Range(from, to, false) {
			o.now = o.now.Delete(key)
		}
	})
}

func (o *memoryObject) Transact(fn func() error) error {
	o.mu.Lock()
	before := o.now
	if o.within {
		o.mu.Unlock()
		return errors.New("durable: a transaction in a transaction")
	}
	o.within = true
	o.mu.Unlock()
	committed := false
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.within = false
		if !committed {
			o.now = before
		}
	}()
	err := fn()
	if err == nil {
		err = o.all.fault("Commit")
	}
	if err != nil {
		return err
	}
	o.all.mu.Lock()
	o.all.data[o.did] = o.now
	o.all.mu.Unlock()
	committed = true
	return o.all.fault("Committed")
}

func (o *memoryObject) Close() error {
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	delete(o.all.open, o.did)
	return nil
}
