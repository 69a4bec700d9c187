package sqlite

import (
	"context"
	"sync/atomic"
)

// maxGroup bounds how many steps share a transaction.
const maxGroup = 512

// writer lets steps take turns on the one writing connection. A step runs in
// the goroutine of its caller. When it is done and others wait, it leaves the
// transaction open for the next of them; the last one commits for all, and all
// return then.
type writer struct {
	turn    chan struct{} // has room for one: full while someone holds the turn
	waiting atomic.Int32  // steps that will take the turn
	closed  bool          // guarded by the turn, as is what follows
	conn    *conn
	group   *group // the open transaction, nil if there is none
}

// group is the steps that share a transaction.
type group struct {
	steps  int
	commit []func() // called after the commit
	done   chan struct{}
	err    error // set before done is closed
}

func (w *writer) init(c *conn) {
	w.turn, w.conn = make(chan struct{}, 1), c
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

// do runs fn in a transaction and returns when it is committed. What fn wrote is
// undone if it fails, panics, or the transaction cannot be committed. An
// alone step shares its transaction with no other: for long ones. after is called
// once the step is committed.
func (w *writer) do(ctx context.Context, alone bool, fn func(*conn) error, after func()) error {
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
			w.pass(false)
		}()
		return ctx.Err()
	}
	g, err := w.step(ctx, alone, fn, after)
	if err != nil {
		return fail(ctx, err)
	}
	<-g.done
	return fail(ctx, g.err)
}

// step runs one step in its turn, and passes the turn on.
func (w *writer) step(ctx context.Context, alone bool, fn func(*conn) error, after func()) (g *group, err error) {
	defer func() { w.pass(alone) }()
	if w.closed {
		return nil, errClosed
	}
	if alone && w.group != nil {
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
	w.conn.use(ctx, alone)
	if err := w.conn.savepoint(fn); err != nil {
		return nil, err
	}
	g.steps++
	if after != nil {
		g.commit = append(g.commit, after)
	}
	return g, nil
}

// pass gives up the turn, after committing if nobody is there to leave that to.
func (w *writer) pass(now bool) {
	if g := w.group; g != nil && (now || w.waiting.Load() == 0 || g.steps >= maxGroup || w.conn.GetAutocommit()) {
		w.end()
	}
	<-w.turn
}

// end commits the transaction and lets its steps return.
func (w *writer) end() {
	g := w.group
	w.group = nil
	w.conn.use(context.Background(), false)
	switch {
	case w.conn.GetAutocommit():
		g.err = errRolledBack
	case g.steps == 0:
		g.err = w.conn.exec("ROLLBACK")
	default:
		g.err = w.conn.exec("COMMIT")
	}
	if g.err != nil && !w.conn.GetAutocommit() {
		w.conn.exec("ROLLBACK")
	}
	if g.err == nil {
		for _, after := range g.commit {
			after()
		}
	}
	close(g.done)
}
