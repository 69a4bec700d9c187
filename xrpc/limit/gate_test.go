package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func clientAt(addr string) Client { return Client{Network: NetworkOf(netip.MustParseAddr(addr))} }

var (
	mallory = clientAt("192.0.2.1")
	alice   = clientAt("192.0.2.2")
	bob     = clientAt("192.0.2.3")
)

// enter must get in at once.
func enter(t *testing.T, g *Gate, c Client) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	leave, err := g.Enter(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

// refused must not get in.
func refused(t *testing.T, g *Gate, c Client, own bool) {
	t.Helper()
	_, err := g.Enter(t.Context(), c)
	var e *Error
	if !errors.As(err, &e) || e.Own != own || e.Header().Get("Retry-After") == "" {
		t.Fatalf("%v", err)
	}
}

func TestNetworkOf(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := NetworkOf(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s: %s", a, got)
		}
	}
	if NetworkOf(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("a network of no address")
	}
}

func TestOneNetworkTakesNoMoreThanItsShare(t *testing.T) {
	g := &Gate{Name: "x", Total: 10, PerNetwork: 4}
	var leave []func()
	for range 4 {
		leave = append(leave, enter(t, g, mallory))
	}
	refused(t, g, mallory, true)
	for range 4 {
		enter(t, g, alice)
	}
	enter(t, g, bob)
	enter(t, g, bob)
	refused(t, g, bob, false) // all are taken
	leave[0]()
	leave[0]() // does nothing
	enter(t, g, bob)
	refused(t, g, bob, false)
	if g.Held() != 10 {
		t.Error(g.Held())
	}
}

// Who already holds places leaves the last ones to others, and nobody gets those of the privileged.
func TestReservedPlaces(t *testing.T) {
	g := &Gate{Name: "x", Total: 10, Reserved: 3, Privileged: 2}
	for range 5 {
		enter(t, g, mallory)
	}
	refused(t, g, mallory, false)
	enter(t, g, alice)
	refused(t, g, alice, false) // has one
	enter(t, g, bob)
	enter(t, g, clientAt("192.0.2.4"))
	refused(t, g, clientAt("192.0.2.5"), false)
	relay := Client{Network: clientAt("192.0.2.6").Network, Privileged: true}
	enter(t, g, relay)
	enter(t, g, relay)
	refused(t, g, relay, false)
	if (&Gate{Total: 1, Reserved: 5, Privileged: 5}).fits(&share{}, alice) != true {
		t.Error("a gate that nobody can enter")
	}
}

// A thousand requests in the queue of one network delay the only one of another by no more than one
// place.
func TestQueueServesNetworksInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{Name: "x", Total: 1, Queue: 2000, Wait: time.Hour}
		first := enter(t, g, mallory)
		var mu sync.Mutex
		var order []Client
		wait := func(c Client) {
			go func() {
				leave, err := g.Enter(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, c)
				mu.Unlock()
				leave()
			}()
			synctest.Wait()
		}
		for range 1000 {
			wait(mallory)
		}
		wait(alice)
		wait(bob)
		wait(alice)
		if g.Waiting() != 1003 {
			t.Fatal(g.Waiting())
		}
		first()
		synctest.Wait()
		if g.Waiting() != 0 || g.Held() != 0 || len(order) != 1003 || len(g.shares) != 0 || len(g.turns) != 0 {
			t.Fatal(g.Waiting(), g.Held(), len(order), len(g.shares), len(g.turns))
		}
		want := []Client{mallory, alice, bob, mallory, alice, mallory}
		if got := fmt.Sprint(order[:6]); got != fmt.Sprint(want) {
			t.Errorf("%s, want %v", got, want)
		}
	})
}

func TestHungUpClientsLeaveTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{Name: "x", Total: 1, Queue: 500, Wait: time.Hour}
		leave := enter(t, g, bob)
		ctx, hangUp := context.WithCancel(t.Context())
		for range 499 {
			go func() {
				if _, err := g.Enter(ctx, mallory); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		begin := time.Now()
		got := make(chan func())
		go func() {
			leave, err := g.Enter(t.Context(), alice)
			if err != nil {
				t.Error(err)
			}
			got <- leave
		}()
		synctest.Wait()
		hangUp()
		synctest.Wait()
		if g.Waiting() != 1 {
			t.Error(g.Waiting())
		}
		leave()
		(<-got)()
		if took := time.Since(begin); took != 0 {
			t.Errorf("waited for %v", took)
		}
		if _, err := g.Enter(ctx, alice); !errors.Is(err, context.Canceled) {
			t.Error("entered with a context that has ended")
		}
		if g.Held() != 0 {
			t.Error(g.Held())
		}
	})
}

func TestQueueIsBoundedInTimeAndLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{Name: "x", Total: 1, Queue: 3, QueuePerNetwork: 2, Wait: time.Second}
		enter(t, g, bob)
		begin := time.Now()
		results := make(chan error, 10)
		wait := func(c Client) {
			go func() {
				_, err := g.Enter(t.Context(), c)
				results <- err
			}()
			synctest.Wait()
		}
		wait(mallory)
		wait(mallory)
		refused(t, g, mallory, false)
		wait(alice)
		refused(t, g, alice, false) // the queue is full, and nobody has more in it than she would have
		carol := clientAt("192.0.2.4")
		wait(carol) // takes the place of mallory's last
		var e *Error
		if err := <-results; !errors.As(err, &e) || !e.Own || e.Status() != 429 {
			t.Error(err)
		}
		for range 3 {
			if err := <-results; !errors.As(err, &e) || e.Status() != 503 {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took != time.Second || g.Waiting() != 0 {
			t.Error(took, g.Waiting())
		}
	})
}

// Whatever happens at once, no bound is exceeded and nothing is lost.
func TestGateUnderRandomLoad(t *testing.T) {
	g := &Gate{Name: "x", Total: 7, PerNetwork: 3, Reserved: 1, Privileged: 1, Queue: 20, Wait: time.Millisecond}
	var mu sync.Mutex
	held := map[netip.Prefix]int{}
	total := 0
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			c := clientAt(fmt.Sprintf("192.0.2.%d", i%6))
			c.Privileged = i%6 == 0
			for range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(4) == 0 {
					go cancel()
				}
				leave, err := g.Enter(ctx, c)
				if err == nil {
					mu.Lock()
					held[c.Network]++
					total++
					if held[c.Network] > 3 || total > 7 {
						t.Errorf("%d of one network, %d in all", held[c.Network], total)
					}
					mu.Unlock()
					mu.Lock()
					held[c.Network]--
					total--
					mu.Unlock()
					leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if g.Held() != 0 || g.Waiting() != 0 || len(g.shares) != 0 || len(g.turns) != 0 {
		t.Error(g.Held(), g.Waiting(), len(g.shares), len(g.turns))
	}
}

func TestBudget(t *testing.T) {
	b := &Budget{Name: "x", Total: 100, PerNetwork: 60}
	var e *Error
	if err := b.Take(mallory, 60); err != nil {
		t.Error(err)
	}
	if err := b.Take(mallory, 1); !errors.As(err, &e) || !e.Own {
		t.Error(err)
	}
	if err := b.Take(alice, 41); !errors.As(err, &e) || e.Own {
		t.Error(err)
	}
	if err := b.Take(alice, 40); err != nil {
		t.Error(err)
	}
	b.Give(mallory, 60)
	b.Give(alice, 40)
	if b.Used() != 0 || len(b.by) != 0 {
		t.Error(b.Used(), b.by)
	}
}
