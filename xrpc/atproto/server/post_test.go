package server

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
)

// What waits is done before the end, and nothing new is taken.
func TestPostboxEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPostbox()
		gate, done := make(chan struct{}), make(chan int, 10)
		for i := range 10 {
			if !p.do(func(context.Context) { <-gate; done <- i }) {
				t.Fatal("no room")
			}
		}
		closed := make(chan struct{})
		go func() { p.close(context.Background()); close(closed) }()
		synctest.Wait()
		if p.do(func(context.Context) {}) {
			t.Error("a job was taken after the end began")
		}
		select {
		case <-closed:
			t.Error("it ended before its jobs")
		default:
		}
		close(gate)
		<-closed
		if len(done) != 10 {
			t.Errorf("%d jobs were done", len(done))
		}
	})
}

// Jobs that take too long are told to end: each after its time, and all of them when nobody waits for
// the end any more.
func TestPostboxIsPatientForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPostbox()
		ended := make(chan error, 10)
		stuck := func(ctx context.Context) { <-ctx.Done(); ended <- ctx.Err() }
		p.do(stuck)
		if err := <-ended; err != context.DeadlineExceeded {
			t.Error(err)
		}
		for range postWorkers + 1 {
			p.do(stuck)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p.close(ctx)
		for range postWorkers + 1 {
			if err := <-ended; err != context.Canceled {
				t.Error(err)
			}
		}
	})
}

// An address is one at a name, as mail servers of others have it.
func TestAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"alice@example.com": true, "a.b+c@mail.example.co.uk": true, "alice@localhost": true, "ä@example.com": true,
		"": false, "alice": false, "alice@example": false, "Alice <alice@example.com>": false, "alice@example.com\r\nBcc: x@example.com": false,
		"a@b@example.com": false, `"a b"@example.com`: false, "alice@example.com ": false, "root@[127.0.0.1]": false, "root@[IPv6:::1.2.3.4]": false,
		strings.Repeat("a", 243) + "@example.com": false,
	} {
		if validEmail(address) != good {
			t.Errorf("%q: %v", address, !good)
		}
	}
}
