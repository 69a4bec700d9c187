package session

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pdskit/pdskit/xrpc/limit"
)

// busy takes all places of the gate until the function that it returns is called.
func busy(t *testing.T, hashing gate) (release func()) {
	t.Helper()
	var leave []func()
	for range hashing.Total {
		l, err := hashing.Gate.Enter(t.Context(), limit.Client{Network: netip.MustParsePrefix("203.0.113.1/32")})
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	return func() {
		for _, l := range leave {
			l()
		}
	}
}

func from(ctx context.Context, addr string) context.Context {
	return limit.WithClient(ctx, limit.Client{Network: limit.NetworkOf(netip.MustParseAddr(addr))})
}

// waiting fails unless so many wait, when nothing moves any more.
func waiting(t *testing.T, hashing gate, want int) {
	t.Helper()
	if synctest.Wait(); hashing.Waiting() != want {
		t.Fatalf("%d wait, want %d", hashing.Waiting(), want)
	}
}

// Hundreds of logins that hang up give up their places before they are hashed, and a login from
// elsewhere waits for none of them.
func TestLoginsThatHangUpAreNotHashed(t *testing.T) { synctest.Test(t, hangUps) }

func hangUps(t *testing.T) {
	hashing := hashGate()
	release := busy(t, hashing)
	ctx, hangUp := context.WithCancel(from(t.Context(), "192.0.2.1"))
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			leave, err := hashing.wait(ctx)
			if err == nil {
				leave()
			}
			var full *limit.Error // when its network has too many in the queue
			if !errors.As(err, &full) && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	waiting(t, hashing, hashing.QueuePerNetwork)
	other := make(chan error)
	go func() {
		leave, err := hashing.wait(from(t.Context(), "192.0.2.2"))
		if err == nil {
			leave()
		}
		other <- err
	}()
	waiting(t, hashing, hashing.QueuePerNetwork+1)
	hangUp()
	wg.Wait()
	if hashing.Waiting() != 1 {
		t.Errorf("%d wait", hashing.Waiting())
	}
	release()
	if err := <-other; err != nil {
		t.Error(err)
	}
	if hashing.Held() != 0 {
		t.Error("places are held")
	}
}

// A network that floods the queue delays the logins of others by no more than one of its own at a
// time.
func TestLoginsOfOthersAreNotBehindAFlood(t *testing.T) { synctest.Test(t, flood) }

func flood(t *testing.T) {
	hashing := hashGate()
	release := busy(t, hashing)
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	hash := func(addr string) {
		wg.Go(func() {
			leave, err := hashing.wait(from(t.Context(), addr))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, addr)
			mu.Unlock()
			leave()
		})
	}
	for range hashing.QueuePerNetwork {
		hash("192.0.2.1")
	}
	waiting(t, hashing, hashing.QueuePerNetwork)
	hash("192.0.2.2")
	waiting(t, hashing, hashing.QueuePerNetwork+1)
	release()
	wg.Wait()
	for i, addr := range order {
		if addr == "192.0.2.2" && i > hashing.Total+1 {
			t.Errorf("behind %d others", i)
		}
	}
}
