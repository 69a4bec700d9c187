package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func TestCache(t *testing.T) {
	now := start
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "one.example.com")}}
	r := &Resolver{PLC: dir, TTL: time.Hour, StaleFor: 2 * time.Hour, NegativeTTL: time.Minute, Now: func() time.Time { return now }}
	want := func(handle syntax.Handle, wantErr error, calls int) {
		t.Helper()
		d, err := r.ResolveDID(ctx, alice)
		if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err == nil {
			if h, _ := d.Handle(); h != handle {
				t.Errorf("%s, want %s", h, handle)
			}
		}
		dir.wantCalls(t, calls)
	}
	want("one.example.com", nil, 1)
	dir.set(alice, claims(alice, "two.example.com"))
	now = now.Add(time.Hour - 1)
	want("one.example.com", nil, 1) // fresh
	now = now.Add(1)
	want("two.example.com", nil, 2) // expired
	dir.set(alice, nil)
	now = now.Add(time.Hour)
	want("two.example.com", nil, 3) // stale while the directory is down
	want("two.example.com", nil, 3) // which is not asked again at once
	now = now.Add(time.Minute)
	want("two.example.com", nil, 4)
	now = now.Add(2*time.Hour - time.Minute)
	want("", ErrUnavailable, 5) // stale for too long
	want("", ErrUnavailable, 5) // failures are remembered
	now = now.Add(time.Minute)
	dir.set(alice, claims(alice, "three.example.com"))
	want("three.example.com", nil, 6) // and forgotten
	dir.set(alice, claims(alice, "four.example.com"))
	r.Purge(syntax.AtIdentifier(alice))
	want("four.example.com", nil, 7)
	delete(dir.docs, alice)
	now = now.Add(time.Hour)
	want("", ErrNotFound, 8) // a definite answer ends staleness
	r.Purge(syntax.AtIdentifier(alice))
	want("", ErrNotFound, 9)
}

// By default, an answer is kept for an hour, and up to a day while the directory does not answer;
// that there is none, for 30 seconds.
func TestCacheByDefault(t *testing.T) {
	now := start
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "one.example.com")}}
	r := &Resolver{PLC: dir, Now: func() time.Time { return now }}
	want := func(wantErr error, calls int) {
		t.Helper()
		if _, err := r.ResolveDID(ctx, alice); !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Errorf("%v later: %v, want %v", now.Sub(start), err, wantErr)
		}
		dir.wantCalls(t, calls)
	}
	want(nil, 1)
	now = start.Add(time.Hour - 1)
	want(nil, 1)
	dir.set(alice, nil)
	now = start.Add(time.Hour)
	want(nil, 2)
	now = start.Add(24*time.Hour - 1)
	want(nil, 3)
	now = start.Add(24 * time.Hour)
	want(nil, 3) // it was not asked for so long
	now = now.Add(30 * time.Second)
	want(ErrUnavailable, 4)
	now = now.Add(30*time.Second - 1)
	want(ErrUnavailable, 4)
	now = now.Add(1)
	want(ErrUnavailable, 5)
}

// By default, 10,000 DIDs are kept.
func TestSizeOfTheCacheByDefault(t *testing.T) {
	r := &Resolver{PLC: &fakeDirectory{docs: map[syntax.DID]*Document{}}}
	const most = 10_000
	for i := range most + 100 {
		digits := strings.Map(func(c rune) rune { return c - '0' + 'a' }, fmt.Sprintf("%024d", i))
		if _, err := r.ResolveDID(ctx, syntax.DID("did:plc:"+digits)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n, _, _ := r.dids.Stats(); n != platform.Default(most, 1000) {
		t.Errorf("%d are kept", n)
	}
}

func TestPurgeOfADIDPurgesItsHandle(t *testing.T) {
	dns := fakeDNS{"_atproto.alice.example.com.": {"did=" + string(alice)}}
	r := &Resolver{PLC: &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "alice.example.com")}}, DNS: dns, HTTP: internet(t, http.NotFound), Timeout: time.Minute}
	if id, err := r.Lookup(ctx, syntax.AtIdentifier(alice)); err != nil || id.Handle != "alice.example.com" {
		t.Fatal(id, err)
	}
	delete(dns, "_atproto.alice.example.com.")
	if id, err := r.Lookup(ctx, "alice.example.com"); err != nil || id.Handle != "alice.example.com" {
		t.Fatal("not cached", id, err)
	}
	r.Purge(syntax.AtIdentifier(alice))
	if id, err := r.Lookup(ctx, syntax.AtIdentifier(alice)); err != nil || id.Handle != syntax.InvalidHandle {
		t.Error(id, err)
	}
	dns["_atproto.alice.example.com."] = []string{"did=" + string(alice)}
	r.Purge("Alice.example.com")
	if did, err := r.ResolveHandle(ctx, "alice.example.com"); err != nil || did != alice {
		t.Error(did, err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	dir := &fakeDirectory{docs: map[syntax.DID]*Document{}}
	r := &Resolver{PLC: dir, MaxEntries: 10}
	did := func(i int) syntax.DID {
		return syntax.DID("did:plc:" + strings.Repeat("a", 22) + string([]byte{'a' + byte(i/26), 'a' + byte(i%26)}))
	}
	resolve := func(i int) {
		t.Helper()
		_, _ = r.ResolveDID(ctx, did(i))
	}
	for i := range 600 { // half of them do not exist
		if i%2 == 0 {
			dir.docs[did(i)] = claims(did(i))
		}
		resolve(i)
		if i > 0 {
			resolve(0) // often used: stays
		}
	}
	if n, cost, _ := r.dids.Stats(); n != 10 || cost != 10 {
		t.Errorf("%d entries of cost %d", n, cost)
	}
	dir.wantCalls(t, 600)
	big := claims(did(601), strings.Repeat("x", 5*4096))
	dir.docs[did(601)] = big
	resolve(601)
	if n, cost, _ := r.dids.Stats(); n != 5 || cost != 10 {
		t.Errorf("%d entries of cost %d beside a large document", n-1, cost)
	}
	dir.docs[did(602)] = claims(did(602), strings.Repeat("x", 100*4096))
	resolve(602)
	n, _, loads := r.dids.Stats()
	if n != 1 {
		t.Errorf("%d entries beside a huge document", n-1)
	}
	if loads != 0 {
		t.Error("loads are left")
	}
}

func TestConcurrentLookupsShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "one.example.com")}, block: make(chan struct{})}
		r := &Resolver{PLC: dir}
		var wg sync.WaitGroup
		var ok atomic.Int64
		for range 50 {
			wg.Go(func() {
				if _, err := r.ResolveDID(ctx, alice); err == nil {
					ok.Add(1)
				}
			})
		}
		synctest.Wait()
		cancelled, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			if _, err := r.ResolveDID(cancelled, alice); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
				t.Errorf("given up: %v", err)
			}
		})
		synctest.Wait()
		cancel() // one who gives up does not spoil it for the others
		synctest.Wait()
		close(dir.block)
		wg.Wait()
		dir.wantCalls(t, 1)
		if ok.Load() != 50 {
			t.Errorf("%d of 50 succeeded", ok.Load())
		}
	})
}

func TestPurgeDuringAResolution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "old.example.com")}, block: make(chan struct{})}
		r := &Resolver{PLC: dir}
		get := func() string {
			d, err := r.ResolveDID(ctx, alice)
			if err != nil {
				t.Error(err)
				return ""
			}
			h, _ := d.Handle()
			return string(h)
		}
		var wg sync.WaitGroup
		wg.Go(func() { get() })
		synctest.Wait() // the old document is on its way
		dir.set(alice, claims(alice, "new.example.com"))
		r.Purge(syntax.AtIdentifier(alice))
		wg.Go(func() {
			if h := get(); h != "new.example.com" {
				t.Errorf("after the purge: %s", h)
			}
		})
		synctest.Wait()
		close(dir.block)
		wg.Wait()
		if h := get(); h != "new.example.com" {
			t.Errorf("cached: %s", h)
		}
		dir.wantCalls(t, 2)
	})
}

func BenchmarkLookupCached(b *testing.B) {
	r := &Resolver{PLC: &fakeDirectory{docs: map[syntax.DID]*Document{alice: claims(alice, "alice.example.com")}},
		DNS: fakeDNS{"_atproto.alice.example.com.": {"did=" + string(alice)}}, HTTP: &http.Client{Transport: nettest.RoundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("offline") })}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Lookup(ctx, "alice.example.com"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
