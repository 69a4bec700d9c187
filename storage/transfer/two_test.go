package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/transfer"
)

// shutLog calls a function once, when the log is looked at for the nth time while the store refuses
// writes.
type shutLog struct {
	storage.Events
	m    storage.Movable
	n    int
	once func()
}

func (l *shutLog) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	if w, err := l.m.Watched(ctx); err == nil && w.State == storage.Shut {
		if l.n--; l.n == 0 {
			l.once()
		}
	}
	return l.Events.Bounds(ctx)
}

// A second mover, or one that gives the move up, comes while the first one has shut the source. What
// is written from then on is not lost: the first one does not say that the target is ready, and
// leaves the source alone.
func TestTwoMovers(t *testing.T) {
	ctx := t.Context()
	for name, second := range map[string]func(*transfer.Mover) error{
		"copy":        func(m *transfer.Mover) error { return m.Copy(ctx) },
		"abort":       func(m *transfer.Mover) error { return m.Abort(ctx, false) },
		"force abort": func(m *transfer.Mover) error { return m.Abort(ctx, true) },
	} {
		for nth := range 2 {
			t.Run(fmt.Sprint(name, " ", 1+nth), func(t *testing.T) {
				from, to := inMemory(t), inMemory(t)
				w := newWorld(t, from, 1)
				w.live(ctx, 3, 40)
				cfg := transfer.Config{From: from, To: to, Name: "to"}
				late := func(key string) {
					t.Helper()
					if err := from.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, key, []byte("v"), time.Time{}) }); err != nil {
						t.Errorf("the source takes no writes: %v", err)
					}
				}
				hook := &shutLog{Events: from.Events, m: from.Repos.(storage.Movable), n: 1 + nth}
				hook.once = func() {
					if err := second(mover(t, cfg)); err != nil {
						t.Error(err)
					}
					late("late")
				}
				first := cfg
				first.From.Events = hook
				if _, err := mover(t, first).Finish(ctx); !errors.Is(err, transfer.ErrTakenOver) {
					t.Errorf("the first one: %v", err)
				}
				st, err := mover(t, cfg).Status(ctx)
				if want := map[bool]string{true: "being copied", false: "in use"}[name == "copy"]; err != nil || st.Source != want || st.Target == "ready" {
					t.Errorf("status %+v, %v", st, err)
				}
				late("later")
				finish(t, cfg)
				same(t, to, from)
				after := from.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, "x", nil, time.Time{}) })
				if !errors.Is(after, storage.ErrMoved) {
					t.Errorf("after the move: %v", after)
				}
			})
		}
	}
}
