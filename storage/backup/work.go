package backup

import (
	"context"
	"sync"
)

// work does some things at a time, until one fails.
type work struct {
	ctx    context.Context // ends at the first error
	cancel context.CancelCauseFunc
	places chan struct{}
	group  sync.WaitGroup
}

func newWork(ctx context.Context, places int) *work {
	w := &work{places: make(chan struct{}, places)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	return w
}

// do calls fn when there is a place. It returns an error if something has failed.
func (w *work) do(fn func() error) error {
	select {
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	case w.places <- struct{}{}:
	}
	w.group.Go(func() {
		defer func() { <-w.places }()
		if err := fn(); err != nil {
			w.cancel(err)
		}
	})
	return nil
}

// wait waits for what is being done, and returns the first error, or err.
func (w *work) wait(err error) error {
	if err != nil {
		w.cancel(err)
	}
	w.group.Wait()
	err = context.Cause(w.ctx)
	w.cancel(nil)
	return err
}
