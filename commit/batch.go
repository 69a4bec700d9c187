package commit

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Check is a #commit message of a batch, with its result.
type Check struct {
	// Payload is the encoded message. It is decoded if Event is nil.
	Payload []byte
	Event   *Event
	// State, Records and Err are the results of [Verifier.Commit], or Err is that of [DecodeEvent].
	State   State
	Records map[string][]byte
	Err     error
}

// CommitAll checks messages of any number of accounts on all processors, and sets their results.
// The results are those of calling [Verifier.Commit] for one message after another, each with the
// state that the call for the account's previous message returned. last returns the state before an
// account's first message. An error of last becomes the result of all messages of that account.
// last is called once for each account, on any goroutine. So is v.Key, unless a signature does not
// verify.
//
// Messages of one account are checked concurrently too; only the comparison with the previous
// message waits for that one. A message that is not valid is checked again in its turn, and so are
// those behind one that revealed a change of the account's key. Nothing is kept between calls.
// Batches of some hundred messages use all processors and need little memory. If ctx ends, its
// error becomes the result of the remaining messages. A panic of last or v.Key on any goroutine
// becomes a panic of CommitAll.
func (v *Verifier) CommitAll(ctx context.Context, messages []Check, last func(context.Context, syntax.DID) (State, error)) {
	parallel(len(messages), func(i int) {
		if m := &messages[i]; m.Event == nil {
			m.Event, m.Err = DecodeEvent(m.Payload)
		}
	})
	var accounts []*batchAccount
	known := make(map[syntax.DID]*batchAccount)
	checks := make([]batchCheck, len(messages))
	for i := range messages {
		m := &messages[i]
		m.State, m.Records = State{}, nil
		if m.Event == nil {
			continue
		}
		a := known[m.Event.Repo]
		if a == nil {
			a = &batchAccount{did: m.Event.Repo}
			known[a.did] = a
			accounts = append(accounts, a)
		}
		a.messages = append(a.messages, i)
		checks[i].account = a
	}
	parallel(len(checks), func(i int) {
		if a := checks[i].account; a != nil && ctx.Err() == nil {
			a.once.Do(func() { a.load(ctx, v, last) })
			checks[i].run(v, messages[i].Event)
		}
	})
	parallel(len(accounts), func(i int) { accounts[i].finish(ctx, v, messages, checks) })
}

// batchAccount is an account of a batch.
type batchAccount struct {
	did      syntax.DID
	messages []int // by their place in the batch
	once     sync.Once
	loaded   bool
	state    State
	key      *crypto.PublicKey // nil: there is none at hand
	err      error             // of the state
}

// load asks for the account's state and key.
func (a *batchAccount) load(ctx context.Context, v *Verifier, last func(context.Context, syntax.DID) (State, error)) {
	a.loaded = true
	if a.state, a.err = last(ctx, a.did); a.err == nil && v.Key != nil {
		a.key, _ = v.Key(ctx, a.did, false)
	}
}

// batchCheck is what is known of a message before those that come before it.
type batchCheck struct {
	account *batchAccount
	valid   bool
	accepted
}

// run checks what can be checked before the messages that come before. It finds no faults: Commit
// looks for those, in order.
func (c *batchCheck) run(v *Verifier, e *Event) {
	a := c.account
	if a.err != nil || v.Key != nil && a.key == nil || e.Rev <= a.state.Rev || tooLarge(e, v.Limits.withDefaults()) {
		return
	}
	var rule error
	c.accepted, rule, _ = v.verifyMessage(e, func(commit Commit) error {
		if v.Key == nil {
			return nil
		}
		return commit.Verify(a.key)
	})
	c.valid = rule == nil
}

// finish goes through the account's messages in order.
func (a *batchAccount) finish(ctx context.Context, v *Verifier, messages []Check, checks []batchCheck) {
	state := a.state
	// Once a message has brought up another key, what the old one has signed is to be refused.
	rotated := false
	inTurn := *v
	if v.Key != nil {
		inTurn.Key = func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
			key, err := v.Key(ctx, did, refresh)
			if refresh && (key == nil || a.key == nil || !key.Equal(a.key)) {
				rotated = true
			}
			return key, err
		}
	}
	for _, i := range a.messages {
		m := &messages[i]
		switch err := ctx.Err(); {
		case a.err != nil:
			m.Err = a.err
		case err != nil || !a.loaded:
			m.Err = err
		case checks[i].valid && !rotated && m.Event.Rev > state.Rev:
			m.State, m.Records, m.Err = checks[i].after(state, m.Event)
			state = m.State
		default:
			m.State, m.Records, m.Err = inTurn.Commit(ctx, state, m.Event)
			state = m.State
		}
	}
}

// parallel calls fn with 0 to n-1, on all processors, and returns when all calls have. If one
// panics, there are no more calls, and it does.
func parallel(n int, fn func(int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	var next atomic.Int64
	var panicked atomic.Pointer[string]
	work := func() {
		defer func() {
			if p := recover(); p != nil {
				next.Store(int64(n))
				what := fmt.Sprintf("%v\n\n%s", p, debug.Stack())
				panicked.CompareAndSwap(nil, &what)
			}
		}()
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			fn(i)
		}
	}
	var done sync.WaitGroup
	for range workers - 1 {
		done.Go(work)
	}
	work()
	done.Wait()
	if what := panicked.Load(); what != nil {
		panic("commit: " + *what)
	}
}
