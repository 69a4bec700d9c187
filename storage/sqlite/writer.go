package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// maxGroup bounds how many steps share a transaction.
const maxGroup = 512

// step is what one caller does in a transaction.
type step struct {
	fn func(*conn) error
	// after, if not nil, is called once the step is committed.
	after func()
	// exclusive: the step shares its transaction with no other. For long ones.
	exclusive bool
	// retryable: fn may run twice. Then it needs no savepoint, which would copy every page
	// before it is changed.
	retryable bool
}

// writer lets steps take turns on the one writing connection. A step runs in the goroutine of its
// caller. When it is done and others wait, it leaves the transaction open for the next of them; the
// last one commits for all, and all return then.
//
// Invariant: a transaction is open while nobody holds the turn only if waiting > 0. So another step
// will take the turn and commit: no step waits forever. docs/groupcommit.md has the proof.
type writer struct {
	turn    chan struct{} // has room for one: full while someone holds the turn
	waiting atomic.Int32  // steps that will take the turn
	closed  bool          // guarded by the turn, as is what follows
	conn    *conn
	group   *group // the open transaction, nil if there is none
	// committed is called after every commit, in the turn.
	committed func()
}

// group is the steps that share a transaction.
type group struct {
	steps        int
	unrepeatable bool     // one of the steps cannot run again
	commit       []func() // called after the commit
	done         chan struct{}
	cause        error // why SQLite has undone the transaction by itself; nil if it has not
	err          error // set before done is closed
}

// Errors that end a group.
var (
	// errRolledBack: SQLite undid the transaction by itself, as it does when the disk is full.
	errRolledBack = errors.New("sqlite: the transaction was rolled back")
	// errUndone: another step failed without a savepoint.
	errUndone = errors.New("sqlite: the transaction was undone")
)

func (w *writer) init(c *conn, committed func()) {
	w.turn, w.conn, w.committed = make(chan struct{}, 1), c, committed
}

// close waits for its turn and closes the connection.
func (w *writer) close() error {
	w.waiting.Add(1)
	w.turn <- struct{}{}
	w.waiting.Add(-1)
	if w.group != nil {
		w.end()
	}
	w.closed = true
	err := w.conn.close()
	<-w.turn
	return err
}

// do runs a step in a transaction and returns when it is committed. What it wrote is
// undone if it fails, panics, or the transaction cannot be committed.
func (w *writer) do(ctx context.Context, s step) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.waiting.Add(1)
		select {
		case w.turn <- struct{}{}:
			w.waiting.Add(-1)
		case <-ctx.Done():
			// Someone may have left it to this step to commit.
			go func() {
				w.turn <- struct{}{}
				w.waiting.Add(-1)
				w.passTurn(false)
			}()
			return ctx.Err()
		}
		g, err := w.take(ctx, s)
		if err != nil {
			return fail(ctx, err)
		}
		<-g.done
		if g.err != errUndone {
			return fail(ctx, g.err)
		}
		s.retryable = false // once more, and nobody else can undo it
	}
}

// take runs a step in its turn, and passes the turn on.
func (w *writer) take(ctx context.Context, s step) (g *group, err error) {
	defer func() { w.passTurn(s.exclusive) }()
	if w.closed {
		return nil, errClosed
	}
	if s.exclusive && w.group != nil {
		w.end()
	}
	if w.group == nil {
		w.conn.use(ctx, true)
		if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
			return nil, err
		}
		w.group = &group{done: make(chan struct{})}
	}
	g = w.group
	if err := w.run(ctx, s); err != nil {
		if w.conn.GetAutocommit() {
			g.cause = err
		}
		return nil, err
	}
	g.steps++
	if s.after != nil {
		g.commit = append(g.commit, s.after)
	}
	return g, nil
}

// run runs a step so that what it wrote is undone if it fails: by itself with a
// savepoint, or, which is cheaper as long as all goes well, with the transaction, whose
// other steps then run again.
func (w *writer) run(ctx context.Context, s step) (err error) {
	if !s.exclusive && (!s.retryable || w.group.unrepeatable) {
		w.group.unrepeatable = true
		w.conn.use(ctx, false)
		return w.conn.savepoint(s.fn)
	}
	if s.exclusive {
		w.conn.use(ctx, true)
	} else {
		// It is short, and to stop it half way would cost the others.
		w.conn.use(context.Background(), false)
	}
	before := w.conn.TotalChanges()
	done := false
	defer func() {
		if !done && w.conn.TotalChanges() != before {
			w.rollback(errUndone)
		}
	}()
	if err := s.fn(w.conn); err != nil {
		return err
	}
	done = true
	return nil
}

// passTurn gives up the turn, after committing if nobody is there to leave that to.
func (w *writer) passTurn(now bool) {
	if g := w.group; g != nil && (now || w.waiting.Load() == 0 || g.steps >= maxGroup || w.conn.GetAutocommit()) {
		w.end()
	}
	<-w.turn
}

// end commits the transaction and lets its steps return.
func (w *writer) end() {
	g := w.group
	w.conn.use(context.Background(), false)
	switch {
	case w.conn.GetAutocommit():
		if g.cause != nil {
			w.rollback(fmt.Errorf("%w: %w", errRolledBack, g.cause))
			return
		}
		w.rollback(errRolledBack)
		return
	case g.steps == 0:
		w.rollback(nil)
		return
	}
	if err := w.conn.exec("COMMIT"); err != nil {
		w.rollback(err)
		return
	}
	w.group = nil
	for _, after := range g.commit {
		after()
	}
	close(g.done)
	w.committed()
}

// rollback undoes the transaction and gives its steps an error.
func (w *writer) rollback(err error) {
	g := w.group
	w.group = nil
	w.conn.use(context.Background(), false)
	if !w.conn.GetAutocommit() {
		if e := w.conn.exec("ROLLBACK"); err == nil {
			err = e
		}
	}
	g.err = err
	close(g.done)
}
