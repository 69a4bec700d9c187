package sqlite

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
)

// A checkpoint is made whenever the -wal file has grown by checkpointPages. That number is small,
// because a large write to the database would delay the next commits. When the file has walPages,
// 32 MB, writing starts again at its beginning.
const (
	checkpointPages = 1000
	walPages        = 8000
)

// checkpoints keep the -wal file short without holding up the writer. A
// connection of their own copies pages to the database while the writer goes on. As it
// never catches up with a writer that is busy, the writer copies the last few itself, once the
// file is long; then the file starts anew.
type checkpoints struct {
	connect func(context.Context) (*conn, error)
	every   int // pages
	limit   int // pages
	wal     int // length of the -wal file in pages at the last commit
	next    int // length at which the next checkpoint is due
	restart int // length at which the file is to start anew
	running sync.WaitGroup
	busy    atomic.Bool
	copied  atomic.Bool // there has been a checkpoint since the last commit
	conn    *conn       // of the one that runs
}

// init watches the writer's commits.
func (k *checkpoints) init(w *conn, connect func(context.Context) (*conn, error)) {
	k.connect = connect
	k.set(checkpointPages, walPages)
	w.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		if pages < k.wal { // it has started anew
			k.next, k.restart = k.every, k.limit
		}
		k.wal = pages
		return nil
	})
}

func (k *checkpoints) set(every, limit int) {
	k.every, k.next, k.limit, k.restart = every, every, limit, limit
}

// committed is called after every commit with the writer's connection, in its turn. What
// goes wrong here is no error of the commit: the -wal file gets longer, and another
// checkpoint is tried.
func (k *checkpoints) committed(w *conn) {
	switch {
	case k.copied.Swap(false) && k.wal >= k.restart:
		k.restart = k.wal + k.limit // if this is of no use
		// It does less if somebody reads an old snapshot, or makes a checkpoint too.
		_, _, _ = w.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	case k.wal >= k.next && k.busy.CompareAndSwap(false, true):
		k.next = k.wal + k.every
		k.running.Go(func() {
			defer k.busy.Store(false)
			if err := k.checkpoint(); err == nil || errors.Is(err, sqlite3.BUSY) {
				k.copied.Store(true)
			}
		})
	}
}

// checkpoint copies what it can with a connection of its own.
func (k *checkpoints) checkpoint() error {
	if k.conn == nil {
		c, err := k.connect(context.Background())
		if err != nil {
			return err
		}
		// One that has not read the file does not know of the -wal file.
		if err := c.Exec("SELECT 1 FROM sqlite_schema"); err != nil {
			return errors.Join(err, c.close())
		}
		k.conn = c
	}
	_, _, err := k.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	return err
}

// close waits for a checkpoint that runs. The writer is closed before.
func (k *checkpoints) close() error {
	k.running.Wait()
	if k.conn == nil {
		return nil
	}
	return k.conn.close()
}
