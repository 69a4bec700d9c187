//go:build unix

package postgres_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
)

// impatient is a configuration for tests in which nodes are cut off.
var impatient = postgres.Config{Timeout: 300 * time.Millisecond, Poll: 50 * time.Millisecond}

// A step survives it when its connection is closed before any of its messages, or after any of them
// was carried out and before the answer: it is there once, and its number is that of its event.
func TestConnectionCutAnywhere(t *testing.T) {
	url := pgtest.URL(t)
	dir := t.TempDir()
	p := newProxy(t, url)
	straight := open(t, url, dir, impatient)
	defer straight.Close()
	node := open(t, p.url(url), dir, impatient)
	defer node.Close()
	host := newHost(t, node.Store())
	did := didOf(0)
	if _, err := host.Create(testContext, did, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Apply(testContext, did, post("warm", "up")); err != nil { // statements are prepared
		t.Fatal(err)
	}
	for _, f := range []fate{cut, mute} {
		for at := 1; ; at++ {
			before := replay(t, straight.Store())
			var done atomic.Bool
			p.rule(func(l *link, typ byte) fate {
				if l.messages == at && done.CompareAndSwap(false, true) {
					return f
				}
				return pass
			})
			text := fmt.Sprint(f, " at ", at)
			res, err := host.Apply(testContext, did, post("step", text))
			p.rule(nil)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			after := replay(t, straight.Store())
			if len(after) != len(before)+1 {
				t.Fatalf("%s: %d events were added", text, len(after)-len(before))
			}
			if after[len(before)].Seq != res.Seq {
				t.Errorf("%s: the number is %d, that of the event %d", text, res.Seq, after[len(before)].Seq)
			}
			if !done.Load() { // the step has fewer messages
				t.Logf("a step has %d messages", at-1)
				if at < 20 {
					t.Errorf("only %d messages were counted", at-1)
				}
				break
			}
		}
	}
	checkStore(t, straight.Store())
}

// A node that is cut off, or paused, before any message of a step, with its connection open, holds up
// another node for no longer than the timeouts; its write that comes late fails, or has come first.
func TestFrozenAnywhere(t *testing.T) {
	url := pgtest.URL(t)
	const first, last, stride = 3, 40, 2
	for at := first; at < last; at += stride {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			frozenAt(t, url, at)
		})
	}
}

func frozenAt(t *testing.T, url string, at int) {
	dir := t.TempDir()
	p := newProxy(t, url)
	straight := open(t, url, dir, impatient)
	defer straight.Close()
	node := open(t, p.url(url), dir, impatient)
	defer node.Close()
	did := didOf(0)
	host, other := newHost(t, node.Store()), newHost(t, straight.Store())
	if _, err := host.Create(testContext, did, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Create(testContext, didOf(1), repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*repo.Host{other, host} {
		if _, err := h.Apply(testContext, did, post("warm", "up")); err != nil {
			t.Fatal(err)
		}
	}
	head, err := straight.Store().Repos.Head(testContext, did)
	if err != nil {
		t.Fatal(err)
	}
	frozen := make(chan struct{})
	var once atomic.Bool
	p.rule(func(l *link, typ byte) fate {
		if l.messages >= at {
			if once.CompareAndSwap(false, true) {
				close(frozen)
			}
			return freeze
		}
		return pass
	})
	// The step is one of the store: a host would try again after a conflict.
	change := &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{{Key: "late", Value: []byte("x")}},
		Events: []storage.Event{{DID: did, Kind: "#identity", Time: time.Now(), Payload: []byte{0xa0}}}}
	late := make(chan error, 1)
	var seq int64
	go func() {
		var err error
		seq, err = node.Store().Repos.Apply(testContext, did, change)
		late <- err
	}()
	select {
	case <-frozen:
	case err := <-late: // the step has fewer messages
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	begin := time.Now()
	if _, err := other.Apply(testContext, didOf(1), post("other", "account")); err != nil {
		t.Fatalf("a step for another account: %v", err)
	}
	res, err := other.Apply(testContext, did, post("other", "node"))
	took := time.Since(begin)
	if err != nil {
		t.Fatalf("a step of the other node: %v", err)
	}
	if took > 15*time.Second {
		t.Errorf("the other node was held up for %v", took)
	}
	p.thaw()
	p.rule(nil)
	err = <-late
	switch {
	case err == nil && seq < res.Seq: // it was committed before
	case errors.Is(err, storage.ErrConflict):
	default:
		t.Errorf("the late step: number %d, error %v; the other node's has %d", seq, err, res.Seq)
	}
	events := replay(t, straight.Store())
	found := 0
	for _, e := range events {
		if e.Kind == "#identity" {
			found++
		}
	}
	if want := map[bool]int{true: 1}[err == nil]; found != want {
		t.Errorf("the late step has %d events, want %d", found, want)
	}
	checkStore(t, straight.Store())
	t.Logf("the other node took %v; the late step: %v", took.Round(time.Millisecond), err)
}

// A network that is slow in both directions costs time, nothing else.
func TestSlowNetwork(t *testing.T) {
	url := pgtest.URL(t)
	p := newProxy(t, url)
	node := open(t, p.url(url), t.TempDir(), postgres.Config{})
	defer node.Close()
	host := newHost(t, node.Store())
	if _, err := host.Create(testContext, didOf(0), repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.delay = 30 * time.Millisecond
	p.mu.Unlock()
	for i := range 3 {
		if _, err := host.Apply(testContext, didOf(0), post("note", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Record(testContext, didOf(0), "com.example.note", "note"); err != nil {
			t.Fatal(err)
		}
	}
	checkStore(t, node.Store())
}
