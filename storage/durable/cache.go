package durable

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// list is a doubly linked list of objects.
type list struct{ root object }

func (l *list) init() { l.root.next, l.root.prev = &l.root, &l.root }

func (l *list) first() *object {
	if o := l.root.next; o != &l.root {
		return o
	}
	return nil
}

func (l *list) append(o *object) {
	o.prev, o.next = l.root.prev, &l.root
	o.prev.next, o.next.prev = o, o
}

func (l *list) remove(o *object) {
	o.prev.next, o.next.prev = o.next, o.prev
	o.prev, o.next = nil, nil
}

// acquire returns an account's object, open. The caller releases it.
func (s *DB) acquire(ctx context.Context, did syntax.DID, create bool) (*object, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		o := s.open[did]
		if o == nil {
			o = newObject(did)
			o.users = 1
			s.open[did] = o
			s.users.Add(1)
			shut := s.surplus()
			s.mu.Unlock()
			s.hibernate(shut)
			return s.start(ctx, o, create)
		}
		if o.closing {
			gone := o.gone
			s.mu.Unlock()
			select {
			case <-gone:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if o.users == 0 {
			s.idle.remove(o)
		}
		o.users++
		s.users.Add(1)
		s.mu.Unlock()
		select {
		case <-o.ready:
		case <-ctx.Done():
			s.release(o)
			return nil, ctx.Err()
		}
		if o.store != nil {
			return o, nil
		}
		err := o.openErr
		s.release(o)
		if create && errors.Is(err, storage.ErrNotFound) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			continue // the one who tried did not want to make it, or had no time
		}
		return nil, err
	}
}

// start opens the store of an object that was just put into the map.
func (s *DB) start(ctx context.Context, o *object, create bool) (*object, error) {
	store, err := s.cfg.Objects.Open(ctx, o.did, create)
	if errors.Is(err, storage.ErrNotFound) {
		err = fmt.Errorf("%w: repository %s", storage.ErrNotFound, o.did)
	}
	s.mu.Lock()
	if err == nil {
		o.store = store
		s.stats.Opened++
	} else {
		o.openErr = err
		delete(s.open, o.did)
	}
	close(o.ready)
	s.mu.Unlock()
	if err != nil {
		s.release(o)
		return nil, err
	}
	return o, nil
}

// release gives an object back. One without a repository is closed, and its
// file removed.
func (s *DB) release(o *object) {
	defer s.users.Done()
	s.mu.Lock()
	o.users--
	var shut []*object
	if o.users == 0 && o.store != nil {
		s.idle.append(o)
		if o.isEmpty() {
			shut = append(shut, s.retire(o))
		}
		shut = append(shut, s.surplus()...)
	}
	s.mu.Unlock()
	s.hibernate(shut)
}

// surplus takes idle objects out of use if too many are open. The caller holds
// s.mu, and then hibernates them.
func (s *DB) surplus() (shut []*object) {
	for len(s.open)-s.closing > s.cfg.MaxOpen {
		o := s.idle.first()
		if o == nil {
			break
		}
		shut = append(shut, s.retire(o))
		s.stats.Hibernated++
	}
	return shut
}

// retire takes an idle object out of use. The caller holds s.mu.
func (s *DB) retire(o *object) *object {
	s.idle.remove(o)
	o.closing = true
	s.closing++
	return o
}

// hibernate closes objects that were taken out of use.
func (s *DB) hibernate(list []*object) {
	for _, o := range list {
		// The object is at rest and all of it on disk, so an error is of no
		// consequence.
		_ = s.shut(o)
		s.mu.Lock()
		delete(s.open, o.did)
		s.closing--
		close(o.gone)
		s.mu.Unlock()
	}
}

// shut closes the store of an object that nobody uses.
func (s *DB) shut(o *object) error {
	err := o.store.Close()
	if err == nil && o.isEmpty() {
		err = s.cfg.Objects.Remove(o.did)
	}
	return err
}

// enter waits for an object's turn, in which nobody else writes to it or begins a
// view, and completes its last step. The caller leaves it.
func (s *DB) enter(ctx context.Context, o *object) error {
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.settle(ctx, o); err != nil {
		o.leave()
		return err
	}
	return nil
}

// leave ends a turn.
func (o *object) leave() { <-o.turn }

// use calls fn with an account's object, in its turn.
func (s *DB) use(ctx context.Context, did syntax.DID, create bool, fn func(*object) error) error {
	o, err := s.acquire(ctx, did, create)
	if err != nil {
		return err
	}
	defer s.release(o)
	if err := s.enter(ctx, o); err != nil {
		return err
	}
	defer o.leave()
	return fn(o)
}
