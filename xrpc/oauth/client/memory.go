package client

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Memory is a SessionStore, a StateStore and a Locker in memory, for one process and for tests. The
// zero value is ready to use. It is safe for concurrent use.
type Memory struct {
	// MaxLogins bounds the number of pending logins; beyond it, the oldest are dropped. 0: 10,000.
	MaxLogins int
	// Now is the clock; default time.Now.
	Now func() time.Time

	mu       sync.Mutex
	sessions map[SessionID][]byte
	states   map[string]memoryState
	order    []string // of states, oldest first; some have been taken
	locks    map[string]chan struct{}
}

type memoryState struct {
	value   []byte
	expires time.Time
}

func (m *Memory) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// Get implements SessionStore.
func (m *Memory) Get(_ context.Context, id SessionID) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.sessions[id]
	if !ok {
		return nil, ErrNotFound
	}
	return bytes.Clone(v), nil
}

// CompareAndSwap implements SessionStore.
func (m *Memory) CompareAndSwap(_ context.Context, id SessionID, old, new []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.sessions[id]
	if ok != (old != nil) || !bytes.Equal(v, old) {
		return ErrConflict
	}
	if m.sessions == nil {
		m.sessions = make(map[SessionID][]byte)
	}
	m.sessions[id] = bytes.Clone(new)
	return nil
}

// Delete implements SessionStore.
func (m *Memory) Delete(_ context.Context, id SessionID, old []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.sessions[id]
	if ok && old != nil && !bytes.Equal(v, old) {
		return ErrConflict
	}
	delete(m.sessions, id)
	return nil
}

// List implements SessionStore.
func (m *Memory) List(_ context.Context, did syntax.DID) iter.Seq2[SessionID, error] {
	return func(yield func(SessionID, error) bool) {
		m.mu.Lock()
		var ids []SessionID
		for id := range m.sessions {
			if did == "" || id.DID() == did {
				ids = append(ids, id)
			}
		}
		m.mu.Unlock()
		slices.Sort(ids)
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// Put implements StateStore.
func (m *Memory) Put(_ context.Context, key string, value []byte, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.states == nil {
		m.states = make(map[string]memoryState)
	}
	most := m.MaxLogins
	if most <= 0 {
		most = 10_000
	}
	now := m.now()
	for len(m.order) > 0 {
		s, ok := m.states[m.order[0]]
		if ok && now.Before(s.expires) && len(m.states) < most {
			break
		}
		delete(m.states, m.order[0])
		m.order = m.order[1:]
	}
	if len(m.order) > 2*most { // most of them were taken
		m.order = slices.DeleteFunc(m.order, func(k string) bool { _, ok := m.states[k]; return !ok })
	}
	m.states[key] = memoryState{bytes.Clone(value), expires}
	m.order = append(m.order, key)
	return nil
}

// Take implements StateStore.
func (m *Memory) Take(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.states[key]
	delete(m.states, key)
	if !ok || !m.now().Before(s.expires) {
		return nil, ErrNotFound
	}
	return s.value, nil
}

// Lock implements Locker. It does not use the ttl, since a holder ends with the process.
func (m *Memory) Lock(ctx context.Context, name string, _ time.Duration) (unlock func(), err error) {
	for {
		m.mu.Lock()
		held := m.locks[name]
		if held == nil {
			if m.locks == nil {
				m.locks = make(map[string]chan struct{})
			}
			mine := make(chan struct{})
			m.locks[name] = mine
			m.mu.Unlock()
			return sync.OnceFunc(func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.locks, name)
				close(mine)
			}), nil
		}
		m.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
