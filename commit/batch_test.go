package commit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// world is some accounts whose messages are checked together.
type world struct {
	accounts map[syntax.DID]*account
	stale    map[syntax.DID]*crypto.PublicKey // what a cache has
	last     map[syntax.DID]commit.State
}

var errNoState = errors.New("no state")

func (w *world) state(_ context.Context, did syntax.DID) (commit.State, error) {
	if w.accounts[did] == nil {
		return commit.State{}, errNoState
	}
	return w.last[did], nil
}

// verifier has a cache of keys of its own.
func (w *world) verifier() *commit.Verifier {
	var mu sync.Mutex
	cache := make(map[syntax.DID]*crypto.PublicKey)
	for did, key := range w.stale {
		cache[did] = key
	}
	return &commit.Verifier{Now: func() time.Time { return now.Add(time.Minute) }, Key: func(_ context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if cache[did] == nil || refresh {
			a := w.accounts[did]
			if a == nil || a.key == nil {
				return nil, commit.ErrNoKey
			}
			cache[did] = a.key.PublicKey()
		}
		return cache[did], nil
	}}
}

// oneByOne is what CommitAll promises to be the same as.
func (w *world) oneByOne(v *commit.Verifier, messages []commit.Check) {
	ctx := context.Background()
	last := make(map[syntax.DID]commit.State)
	for i := range messages {
		m := &messages[i]
		if m.Event == nil {
			if m.Event, m.Err = commit.DecodeEvent(m.Payload); m.Err != nil {
				continue
			}
		}
		did := m.Event.Repo
		state, seen := last[did]
		if !seen {
			if state, m.Err = w.state(ctx, did); m.Err != nil {
				continue
			}
		}
		m.State, m.Records, m.Err = v.Commit(ctx, state, m.Event)
		last[did] = m.State
	}
}

// TestCommitAll: a batch gives what its messages give one by one, with damage, repetition, gaps,
// wrong order, foreign signatures and keys that have changed.
func TestCommitAll(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		w := &world{accounts: map[syntax.DID]*account{}, stale: map[syntax.DID]*crypto.PublicKey{}, last: map[syntax.DID]commit.State{}}
		var messages []commit.Check
		for n := range 5 {
			a := newAccount(t, fmt.Sprint("user", n))
			w.accounts[a.did] = a
			if n == 4 {
				delete(w.accounts, a.did) // nobody knows it
			}
			if n > 0 {
				a.write(t, map[string]string{"com.example.a/first": "first"})
				w.last[a.did] = a.state()
			}
			for i := range 6 {
				if n == 3 && i == 3 {
					w.stale[a.did] = a.key.PublicKey()
					a.key = testKey(t, crypto.P256, "new")
				}
				e := a.write(t, map[string]string{fmt.Sprintf("com.example.a/%d", i%4): fmt.Sprint(i)})
				m := commit.Check{Payload: e.Payload()}
				switch random.IntN(10 + round) {
				case 0:
					m.Payload[random.IntN(len(m.Payload))] ^= 1
				case 1:
					messages = append(messages, m) // twice
				case 2:
					continue // lost
				case 3:
					m = commit.Check{Event: e}
				case 4:
					m.Payload = m.Payload[:random.IntN(len(m.Payload))]
				}
				messages = append(messages, m)
			}
		}
		for range random.IntN(3) * 5 {
			i, j := random.IntN(len(messages)), random.IntN(len(messages))
			messages[i], messages[j] = messages[j], messages[i]
		}
		want := append([]commit.Check(nil), messages...)
		got := append([]commit.Check(nil), messages...)
		w.oneByOne(w.verifier(), want)
		w.verifier().CommitAll(context.Background(), got, w.state)
		valid := 0
		for i := range want {
			if fmt.Sprint(got[i].Err) != fmt.Sprint(want[i].Err) || got[i].State != want[i].State || !reflect.DeepEqual(got[i].Records, want[i].Records) {
				t.Fatalf("round %d, message %d: %v, %v; one by one: %v, %v", round, i, got[i].State, got[i].Err, want[i].State, want[i].Err)
			}
			if got[i].Err == nil {
				valid++
			}
		}
		if valid == 0 {
			t.Errorf("round %d: no message is valid", round)
		}
	}
}

// As long as all signatures verify, the state and the key of an account are asked for once; the key
// never if signatures are not checked.
func TestCommitAllAsksOnce(t *testing.T) {
	for name, checked := range map[string]bool{"signatures are checked": true, "signatures are not checked": false} {
		t.Run(name, func(t *testing.T) {
			w := &world{accounts: map[syntax.DID]*account{}, last: map[syntax.DID]commit.State{}}
			var messages []commit.Check
			for n := range 4 {
				a := newAccount(t, fmt.Sprint("user", n))
				w.accounts[a.did] = a
				if n > 1 { // of two accounts there is a state
					a.write(t, map[string]string{"com.example.a/first": "first"})
					w.last[a.did] = a.state()
				}
				for i := range 3 {
					messages = append(messages, commit.Check{Event: a.write(t, map[string]string{"com.example.a/1": fmt.Sprint(i)})})
				}
			}
			var states, keys atomic.Int64
			v := w.verifier()
			key := v.Key
			v.Key = func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
				keys.Add(1)
				return key(ctx, did, refresh)
			}
			wantKeys := int64(4)
			if !checked {
				v.Key, wantKeys = nil, 0
			}
			v.CommitAll(t.Context(), messages, func(ctx context.Context, did syntax.DID) (commit.State, error) {
				states.Add(1)
				return w.state(ctx, did)
			})
			for i, m := range messages {
				if m.Err != nil {
					t.Errorf("message %d: %v", i, m.Err)
				}
			}
			if states.Load() != 4 || keys.Load() != wantKeys {
				t.Errorf("of four accounts, %d states and %d keys were asked for", states.Load(), keys.Load())
			}
		})
	}
}

// TestCommitAllAfterRotation: what the old key has signed is refused behind a message that has shown
// the new one, although the batch began with the old one.
func TestCommitAllAfterRotation(t *testing.T) {
	w := &world{accounts: map[syntax.DID]*account{}, stale: map[syntax.DID]*crypto.PublicKey{}, last: map[syntax.DID]commit.State{}}
	a := newAccount(t, "alice")
	w.accounts[a.did] = a
	a.write(t, map[string]string{"com.example.a/0": "zero"})
	w.last[a.did] = a.state()
	oldKey, newKey := a.key, testKey(t, crypto.P256, "new")
	w.stale[a.did] = oldKey.PublicKey()
	var messages []commit.Check
	for i, key := range []*crypto.PrivateKey{oldKey, newKey, oldKey, newKey} {
		a.key = key
		e := a.write(t, map[string]string{"com.example.a/1": fmt.Sprint(i)})
		messages = append(messages, commit.Check{Payload: e.Payload()})
	}
	want := append([]commit.Check(nil), messages...)
	w.oneByOne(w.verifier(), want)
	w.verifier().CommitAll(context.Background(), messages, w.state)
	for i, m := range messages {
		if fmt.Sprint(m.Err) != fmt.Sprint(want[i].Err) || m.State != want[i].State {
			t.Errorf("message %d: %v, %v; one by one: %v, %v", i, m.State, m.Err, want[i].State, want[i].Err)
		}
	}
	if !errors.Is(messages[2].Err, commit.ErrBadSignature) {
		t.Errorf("signed with the old key: %v", messages[2].Err)
	}
}

// TestCommitAllPanics: the caller can recover from what its functions do on any goroutine.
func TestCommitAllPanics(t *testing.T) {
	a, b := newAccount(t, "alice"), newAccount(t, "bob")
	var messages []commit.Check
	for _, a := range []*account{a, b, a, b} {
		messages = append(messages, commit.Check{Event: a.write(t, map[string]string{"com.example.a/1": fmt.Sprint(len(messages))})})
	}
	var both sync.WaitGroup // two goroutines are at work, so one is not the caller's
	both.Add(2)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	if runtime.GOMAXPROCS(0) < 2 { // as in WebAssembly
		both.Done()
	}
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "no store") {
			t.Error(p)
		}
	}()
	verifier(a).CommitAll(context.Background(), messages, func(context.Context, syntax.DID) (commit.State, error) {
		both.Done()
		both.Wait()
		panic("no store")
	})
}

func TestCommitAllIsCancelled(t *testing.T) {
	a := newAccount(t, "alice")
	e := a.write(t, map[string]string{"com.example.a/1": "one"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	messages := []commit.Check{{Event: e}, {Payload: e.Payload()}, {Payload: []byte{1}}}
	verifier(a).CommitAll(ctx, messages, func(context.Context, syntax.DID) (commit.State, error) { return commit.State{}, nil })
	if !errors.Is(messages[0].Err, context.Canceled) || !errors.Is(messages[1].Err, context.Canceled) || !errors.Is(messages[2].Err, commit.ErrMessage) {
		t.Errorf("%v, %v, %v", messages[0].Err, messages[1].Err, messages[2].Err)
	}
	verifier(a).CommitAll(context.Background(), nil, nil)
}

func ExampleVerifier_CommitAll() {
	var (
		payloads [][]byte // from the wire
		states   = map[syntax.DID]commit.State{}
		verifier commit.Verifier // with a Key
	)
	messages := make([]commit.Check, len(payloads))
	for i, p := range payloads {
		messages[i].Payload = p
	}
	verifier.CommitAll(context.Background(), messages, func(_ context.Context, did syntax.DID) (commit.State, error) {
		return states[did], nil
	})
	for _, m := range messages {
		if m.Err == nil {
			states[m.Event.Repo] = m.State
		}
	}
	// Output:
}

// BenchmarkCommitAll checks 256 messages of 64 accounts of 1,000 records: decoding, slice,
// inversion and signature. In turns with it, the same signatures alone are checked on as many
// goroutines; of-floor is how near to that it comes.
func BenchmarkCommitAll(b *testing.B) {
	for _, alg := range []crypto.Algorithm{crypto.K256, crypto.P256} {
		b.Run(alg.String(), func(b *testing.B) { benchmarkCommitAll(b, alg) })
	}
}

func benchmarkCommitAll(b *testing.B, alg crypto.Algorithm) {
	const accounts, each = 64, 4
	w := &world{accounts: map[syntax.DID]*account{}, last: map[syntax.DID]commit.State{}}
	messages := make([]commit.Check, accounts*each)
	signatures := make([]func() error, len(messages))
	for n := range accounts {
		a := filled(b, fmt.Sprint("user", n), 1000)
		a.key = testKey(b, alg, fmt.Sprint("user", n))
		a.write(b, map[string]string{"com.example.a/now": "now"})
		w.accounts[a.did] = a
		w.last[a.did] = a.state()
		for i := range each {
			e := a.write(b, map[string]string{fmt.Sprintf("com.example.a/%d", i): "a record of the usual length, more or less"})
			at := i*accounts + n
			messages[at].Payload = e.Payload()
			c, key := a.commit, a.key.PublicKey()
			signatures[at] = func() error { return c.Verify(key) }
		}
	}
	v := w.verifier()
	var batch, floor time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		inParallel(len(signatures), func(i int) {
			if err := signatures[i](); err != nil {
				b.Error(err)
			}
		})
		floor += time.Since(start)
		start = time.Now()
		for i := range messages {
			messages[i] = commit.Check{Payload: messages[i].Payload}
		}
		v.CommitAll(context.Background(), messages, w.state)
		batch += time.Since(start)
		for i := range messages {
			if messages[i].Err != nil {
				b.Fatal(messages[i].Err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(messages))/batch.Seconds(), "messages/s")
	b.ReportMetric(floor.Seconds()/batch.Seconds(), "of-floor")
}

// inParallel calls fn with 0 to n-1 on all processors.
func inParallel(n int, fn func(int)) {
	var next atomic.Int64
	var done sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		done.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	done.Wait()
}
