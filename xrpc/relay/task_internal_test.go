package relay

import (
	"context"
	"testing"
)

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
