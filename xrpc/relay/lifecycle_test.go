package relay_test

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// yielding is a KV after whose steps others have their turn.
type yielding struct{ storage.KV }

func (y yielding) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	err := y.KV.Write(ctx, fn)
	runtime.Gosched()
	return err
}

// TestSettingsAsStored: those who change a host at the same time see in the end what is stored.
func TestSettingsAsStored(t *testing.T) {
	ctx := t.Context()
	const name = "pds.test"
	store := memory.New(memory.Config{})
	store.KV = yielding{store.KV}
	r := &relay.Relay{Store: store, Identity: newDirectory()}
	if err := r.AddHost(ctx, name); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		var all sync.WaitGroup
		for _, change := range []func() error{
			func() error { return r.SetLimits(ctx, name, &relay.Limits{Burst: int64(i + 1)}) },
			func() error {
				p := relay.Lenient
				if i%2 == 0 {
					p = relay.Observe
				}
				return r.SetPolicy(ctx, name, &p)
			},
			func() error { return r.Ban(ctx, name, "") },
			func() error { return r.Unban(ctx, name) },
		} {
			all.Go(func() {
				if err := change(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		got, err := r.Host(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := (&relay.Relay{Store: store, Identity: newDirectory()}).Host(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if got.Limits != want.Limits || got.Policy != want.Policy || got.Status != want.Status {
			t.Fatalf("round %d: %v %v %v, but stored is %v %v %v", i, got.Limits, got.Policy, got.Status, want.Limits, want.Policy, want.Status)
		}
	}
}

// TestSettingsAreCopied: what was passed in is the caller's to change.
func TestSettingsAreCopied(t *testing.T) {
	ctx := t.Context()
	const name = "pds.test"
	r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: newDirectory()}
	limits, policy := relay.Limits{Burst: 7}, relay.Lenient
	for _, err := range []error{r.AddHost(ctx, name), r.SetLimits(ctx, name, &limits), r.SetPolicy(ctx, name, &policy)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	limits.Burst, policy = 8, relay.Observe
	if got, err := r.Host(ctx, name); err != nil || got.Limits.Burst != 7 || got.Policy != relay.Lenient {
		t.Errorf("%+v, %v", got, err)
	}
}
