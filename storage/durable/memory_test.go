package durable

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// memObjects are objects in memory. What is stored outlives the objects, as on
// disk. fault, if not nil, makes calls fail: it is asked before "Get", "Scan", "Set",
// "Delete" and "Commit", and after the last as "Committed".
type memObjects struct {
	mu    sync.Mutex
	data  map[syntax.DID]pmap.Map[[]byte]
	open  map[syntax.DID]bool
	marks map[syntax.DID]bool
	fault func(call string) error
}

func newMemObjects() *memObjects {
	return &memObjects{data: map[syntax.DID]pmap.Map[[]byte]{}, open: map[syntax.DID]bool{}, marks: map[syntax.DID]bool{}}
}

func (m *memObjects) ask(call string) error {
	if m.fault != nil {
		return m.fault(call)
	}
	return nil
}

func (m *memObjects) Open(_ context.Context, did syntax.DID, create bool) (Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[did] {
		return nil, fmt.Errorf("%s is open already", did)
	}
	if _, ok := m.data[did]; !ok {
		if !create {
			return nil, storage.ErrNotFound
		}
		m.data[did] = pmap.Map[[]byte]{}
	}
	m.open[did] = true
	return &memObject{all: m, did: did, now: m.data[did]}, nil
}

func (m *memObjects) Remove(did syntax.DID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[did] {
		return fmt.Errorf("%s is open", did)
	}
	delete(m.data, did)
	return nil
}

func (m *memObjects) Mark(did syntax.DID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks[did] = true
	return nil
}

func (m *memObjects) Unmark(did syntax.DID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.marks, did)
	return nil
}

func (m *memObjects) Marked() (list []syntax.DID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for did := range m.marks {
		list = append(list, did)
	}
	return list
}

// kill is the death of the process: objects are open no more.
func (m *memObjects) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.open)
}

type memObject struct {
	all    *memObjects
	did    syntax.DID
	mu     sync.Mutex
	now    pmap.Map[[]byte]
	within bool
}

func (o *memObject) Get(key string) ([]byte, error) {
	if err := o.all.ask("Get"); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if v, ok := o.now.Get(key); ok {
		return append([]byte{}, v...), nil
	}
	return nil, storage.ErrNotFound
}

func (o *memObject) Scan(from, to string, reverse bool, fn func(string, []byte) bool) error {
	if err := o.all.ask("Scan"); err != nil {
		return err
	}
	o.mu.Lock()
	now := o.now
	o.mu.Unlock()
	buf := []byte(nil)
	for k, v := range now.Range(from, to, reverse) {
		buf = append(buf[:0], v...) // good until fn returns
		if !fn(k, buf) {
			return nil
		}
	}
	return nil
}

func (o *memObject) Set(key string, value []byte) error {
	if err := o.all.ask("Set"); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.within {
		return errors.New("Set outside a transaction")
	}
	o.now = o.now.Set(key, append([]byte{}, value...))
	return nil
}

func (o *memObject) Delete(from, to string) error {
	if err := o.all.ask("Delete"); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.within {
		return errors.New("Delete outside a transaction")
	}
	before := o.now
	for k := range before.Range(from, to, false) {
		o.now = o.now.Delete(k)
	}
	return nil
}

func (o *memObject) Transact(fn func() error) error {
	o.mu.Lock()
	before := o.now
	if o.within {
		o.mu.Unlock()
		return errors.New("Transact in a transaction")
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
		err = o.all.ask("Commit")
	}
	if err != nil {
		return err
	}
	o.all.mu.Lock()
	o.all.data[o.did] = o.now
	o.all.mu.Unlock()
	committed = true
	return o.all.ask("Committed")
}

func (o *memObject) Close() error {
	o.all.mu.Lock()
	defer o.all.mu.Unlock()
	delete(o.all.open, o.did)
	return nil
}

// The same laws hold for any objects and any shared store.
func TestConformanceInMemory(t *testing.T) {
	type kept struct {
		objects *memObjects
		shared  storage.Store
	}
	dirs := map[string]kept{}
	var mu sync.Mutex
	storagetest.Run(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			mu.Lock()
			defer mu.Unlock()
			k, ok := dirs[dir]
			if !ok {
				k = kept{newMemObjects(), memory.New(memory.Config{})}
				dirs[dir] = k
			}
			db, err := New(tb.Context(), Config{Shared: k.shared, Objects: k.objects, MaxOpen: 2})
			if err != nil {
				tb.Fatal(err)
			}
			return db.Store(), db.Close
		},
		Exclusive: true, Buffers: true,
		Lacks: storagetest.Weights | storagetest.Headless,
	})
}
