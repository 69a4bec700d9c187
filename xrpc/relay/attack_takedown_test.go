package relay_test

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// between is a store that calls a function once, right after a read.
type between struct {
	storage.Repos
	kv    storage.KV
	read  atomic.Pointer[func()] // after one of the key-value store
	apply atomic.Pointer[func()] // after a change
}

func call(f *atomic.Pointer[func()]) {
	if fn := f.Swap(nil); fn != nil {
		(*fn)()
	}
}

func (b *between) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	seq, err := b.Repos.Apply(ctx, did, c)
	call(&b.apply)
	return seq, err
}

func (b *between) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	err := b.kv.Read(ctx, fn)
	call(&b.read)
	return err
}

func (b *between) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return b.kv.Write(ctx, fn)
}

// TestTakedownMeanwhile: a takedown holds, whatever a message of the account is just doing.
func TestTakedownMeanwhile(t *testing.T) {
	for _, at := range []string{"read", "apply"} {
		t.Run(at, func(t *testing.T) {
			inWorld(t, func(w *world) {
				h := w.host("pds.example")
				a := h.account("alice")
				store := memory.New(memory.Config{})
				b := &between{Repos: store.Repos, kv: store.KV}
				r := w.relay("", func(r *relay.Relay) {
					r.Store = storage.Store{Repos: b, Events: store.Events, KV: b}
					r.NoCollections = true
				})
				r.follow(h)
				down := func() {
					if err := r.Takedown(w.ctx, a.did); err != nil {
						t.Error(err)
					}
				}
				if at == "read" {
					b.read.Store(&down)
				} else {
					b.apply.Store(&down)
				}
				h.say(&commit.Identity{DID: a.did, Time: time.Now()})
				w.settle()
				r.wantStatus(a, "takendown")
				h.post(a)
				h.say(&commit.Identity{DID: a.did, Time: time.Now()})
				w.settle()
				r.wantStatus(a, "takendown")
				r.want("#account alice takendown")
			})
		})
	}
}

// TestTakedownIsHeard: a consumer that lags behind is told of a takedown, and nothing of what was before.
func TestTakedownIsHeard(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		store := memory.New(memory.Config{})
		b := &between{Repos: store.Repos, kv: store.KV}
		r := w.relay("", func(r *relay.Relay) {
			r.Store = storage.Store{Repos: b, Events: store.Events, KV: b}
			r.NoCollections = true
		})
		r.follow(h)
		next, stop := iter.Pull2(r.Outbox().Subscribe(w.ctx, new(int64)))
		defer stop()
		kind := func() string {
			frame, err, _ := next()
			w.must(err)
			f, err := stream.Decode(frame)
			w.must(err)
			return f.Kind
		}
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		w.settle()
		if got := kind(); got != commit.KindIdentity {
			t.Fatal(got)
		}
		h.post(a)
		w.settle()
		settle := w.settle // so that the window has the message
		b.apply.Store(&settle)
		w.must(r.Takedown(w.ctx, a.did))
		if got := kind(); got != commit.KindAccount {
			t.Errorf("the next message is %s", got)
		}
	})
}

// TestDeletionFailsHalfWay: an account that is deleted while the disk fails keeps its last revision, so
// that what it has deleted does not come back.
func TestDeletionFailsHalfWay(t *testing.T) {
	for n := range 6 {
		inWorld(t, func(w *world) {
			h := w.host("pds.example")
			a := h.account("alice")
			store := memory.New(memory.Config{})
			broken := &failing{Repos: store.Repos, kv: store.KV, after: n}
			r := w.relay("", func(r *relay.Relay) {
				r.Store = storage.Store{Repos: broken, Events: store.Events, KV: broken}
				r.NoCollections = true
			})
			r.follow(h)
			first := h.post(a)
			h.post(a)
			w.settle()
			broken.start()
			h.setActive(a, false, commit.Deleted)
			w.pass(10 * time.Second)
			broken.on.Store(false)
			w.pass(10 * time.Second)
			r.wantStatus(a, commit.Deleted)
			if info, _ := r.Host(w.ctx, h.name); info.Accounts != 0 {
				t.Errorf("after %d writes: %d accounts are counted", n, info.Accounts)
			}
			h.setActive(a, true, "")
			h.say(first)
			w.settle()
			if got, err := r.Account(w.ctx, a.did); err != nil || got.Head.Rev != "" {
				t.Errorf("after %d writes: the deleted repository is there again: %+v, %v", n, got, err)
			}
			if info, _ := r.Host(w.ctx, h.name); info.Accounts != 1 {
				t.Errorf("after %d writes: %d accounts", n, info.Accounts)
			}
		})
	}
}
