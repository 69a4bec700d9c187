package stream

import (
	"context"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// slowBounds is a log whose answers about its bounds are delayed until a client has done something.
type slowBounds struct {
	storage.Events
	opened <-chan struct{} // the client has its connection
	calls  int
}

func (l *slowBounds) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	if l.calls++; l.calls > 1 {
		<-l.opened
	}
	return l.Events.Bounds(ctx)
}

// A client without a cursor gets all that is written from the moment on in which it has its
// connection, however long the server takes to begin.
func TestStartsWithTheConnection(t *testing.T) {
	needsWebSockets(t)
	log, opened := newLog(3), make(chan struct{})
	o := &Outbox{Events: &slowBounds{Events: log, opened: opened}}
	t.Cleanup(func() { o.Close() })
	c := connect(t, serveHTTP(t, o))
	log.add(1, 0)
	close(opened)
	log.add(1, 0)
	check(t, "numbers", numbers(t, c, 2), []int64{8, 10})
}
