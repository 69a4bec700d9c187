package relay

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pdskit/pdskit/storage/memory"
)

// TestNothingRunsAfterRun: whatever is asked for while Run ends, Run waits for what was begun, and nothing
// is begun later.
func TestNothingRunsAfterRun(t *testing.T) {
	for range 20 {
		r := &Relay{Store: memory.New(memory.Config{})}
		ctx, cancel := context.WithCancel(t.Context())
		var over atomic.Bool
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for !over.Load() {
					r.background(func(context.Context) {
						runtime.Gosched()
						if over.Load() {
							t.Error("it runs after Run")
						}
					})
					runtime.Gosched()
				}
			})
		}
		all.Go(func() {
			for range 100 {
				runtime.Gosched()
			}
			cancel()
		})
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		over.Store(true)
		all.Wait()
		r.wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// TestTaskOnceMore: what is asked for while it is under way is done once more, and then no more.
func TestTaskOnceMore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &Relay{running: ctx}
	var k task
	begun, proceed := make(chan struct{}), make(chan struct{})
	work := func(context.Context) {
		begun <- struct{}{}
		<-proceed
	}
	for range 4 {
		if !k.start(r, work) {
			t.Fatal("it was not started")
		}
	}
	for range 2 {
		<-begun
		proceed <- struct{}{}
	}
	r.wg.Wait()
	if k.busy {
		t.Error("it is said to be under way")
	}
	cancel()
	if k.start(r, work) || k.busy {
		t.Error("it was started though nothing runs")
	}
}
