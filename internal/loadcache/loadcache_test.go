package loadcache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	errDown = errors.New("down")
	errGone = errors.New("gone")
)

// fixture is a cache with a clock that the test moves, and what it loads from.
type fixture struct {
	*Cache[string, int]
	now   time.Duration
	loads int
	value int
	err   error
}

func newFixture(most int) *fixture {
	x := &fixture{}
	x.Cache = New(Config[string, int]{
		TTL: time.Hour, Stale: 24 * time.Hour, Negative: time.Minute, Timeout: time.Minute, Max: most,
		Now:   func() time.Time { return time.Unix(1e9, 0).Add(x.now) },
		Final: func(err error) bool { return err == errGone },
		Cost:  func(v int) int { return max(1, v/1000) },
	})
	return x
}

func (x *fixture) get(key string) (int, error) {
	return x.Get(context.Background(), key, func(context.Context, int, bool) (int, error) {
		x.loads++
		return x.value, x.err
	})
}

func (x *fixture) want(t *testing.T, value, loads int, err error) {
	t.Helper()
	if v, got := x.get("a"); v != value || got != err || x.loads != loads {
		t.Errorf("%d, %v after %d loads; want %d, %v after %d", v, got, x.loads, value, err, loads)
	}
}

func TestFreshStaleAndNegative(t *testing.T) {
	x := newFixture(10)
	x.value = 1
	x.want(t, 1, 1, nil)
	x.value = 2
	x.now = 59 * time.Minute
	x.want(t, 1, 1, nil)
	x.now = 60 * time.Minute
	x.want(t, 2, 2, nil)
	x.value, x.err = 3, errDown
	x.now = 3 * time.Hour
	x.want(t, 2, 3, nil) // stale
	x.want(t, 2, 3, nil) // and no new attempt yet
	x.now += time.Minute
	x.want(t, 2, 4, nil)
	x.now = 26*time.Hour + time.Minute // 25 hours after the last load
	x.want(t, 0, 5, errDown)
	x.err = nil
	x.want(t, 0, 5, errDown) // remembered
	x.now += time.Minute
	x.want(t, 3, 6, nil)
	x.err = errGone
	x.now += 2 * time.Hour
	x.want(t, 0, 7, errGone) // final: not even while stale
}

func TestLeastRecentlyUsedLeaveFirst(t *testing.T) {
	x := newFixture(3)
	get := func(key string, loads int) {
		t.Helper()
		if _, err := x.get(key); err != nil || x.loads != loads {
			t.Errorf("%s: %v after %d loads, want %d", key, err, x.loads, loads)
		}
	}
	get("a", 1)
	get("b", 2)
	get("c", 3)
	get("a", 3)
	get("d", 4) // b leaves
	get("a", 4)
	get("c", 4)
	get("b", 5) // d leaves
	x.value = 2000
	get("e", 6) // costs 2: a and c leave
	get("b", 6)
	get("a", 7)
	x.value = 1e6
	get("f", 8) // more than all the room there is: alone
	get("f", 8)
	if n, cost, loads := x.Stats(); n != 1 || cost != 1000 || loads != 0 {
		t.Errorf("%d entries of cost %d, %d loads", n, cost, loads)
	}
}

func TestOneLoadForAll(t *testing.T) {
	x := newFixture(10)
	var loads atomic.Int64
	started, release := make(chan struct{}, 1), make(chan struct{})
	load := func(ctx context.Context, _ int, _ bool) (int, error) {
		loads.Add(1)
		started <- struct{}{}
		<-release
		return 7, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := x.Get(ctx, "a", load)
		gaveUp <- err
	}()
	<-started
	cancel() // the one who began it
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v, err := x.Get(t.Context(), "a", load); v != 7 || err != nil {
				t.Error(v, err)
			}
		})
	}
	close(release)
	wg.Wait()
	if loads.Load() != 1 {
		t.Errorf("%d loads", loads.Load())
	}
}

func TestPurgeDuringALoad(t *testing.T) {
	x := newFixture(10)
	started, release := make(chan struct{}), make(chan struct{})
	first := make(chan string)
	go func() {
		v, err := x.Get(t.Context(), "a", func(context.Context, int, bool) (int, error) {
			close(started)
			<-release
			return 1, nil
		})
		first <- fmt.Sprint(v, err)
	}()
	<-started
	if _, held := x.Purge("a"); held {
		t.Error("held what is being loaded")
	}
	x.value = 2
	x.want(t, 2, 1, nil) // which does not wait for the first
	close(release)
	if got := <-first; got != "1 <nil>" {
		t.Error(got)
	}
	x.want(t, 2, 1, nil) // the first one's value is not kept
	if v, held := x.Purge("a"); v != 2 || !held {
		t.Error(v, held)
	}
}

func TestLoadSeesWhatWasHeld(t *testing.T) {
	x := newFixture(10)
	x.value = 5
	x.want(t, 5, 1, nil)
	x.now = 2 * time.Hour
	v, err := x.Get(t.Context(), "a", func(_ context.Context, old int, held bool) (int, error) {
		if !held {
			return 0, errDown
		}
		return old + 1, nil
	})
	if v != 6 || err != nil {
		t.Error(v, err)
	}
}

// What was loaded by a clock that was ahead is loaded again when the clock is right, be it a value,
// an error or a stale value, and is kept where it cannot be.
func TestAClockThatGoesBack(t *testing.T) {
	x := newFixture(10)
	x.now = 20 * 365 * 24 * time.Hour
	x.value = 1
	x.want(t, 1, 1, nil)
	x.now = 0
	x.value = 2
	x.want(t, 2, 2, nil)
	x.want(t, 2, 2, nil)

	x = newFixture(10)
	x.now, x.err = 2*time.Hour, errDown
	x.want(t, 0, 1, errDown)
	x.now, x.value, x.err = 0, 3, nil
	x.want(t, 3, 2, nil)

	x = newFixture(10)
	x.value = 1
	x.want(t, 1, 1, nil)
	x.now, x.err = 2*time.Hour, errDown
	x.want(t, 1, 2, nil) // stale
	x.now = time.Minute
	x.want(t, 1, 3, nil) // tried again, and still stale
	x.want(t, 1, 3, nil)
}
