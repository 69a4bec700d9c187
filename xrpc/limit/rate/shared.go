package rate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Shared configures the shared counters of several nodes: see the package comment.
type Shared struct {
	// KV stores the counters, in keys that begin with "rate/".
	KV storage.KV
	// Secret conceals in the keys whose counters they are. It has at least 16 random bytes, and is
	// the same on all nodes.
	Secret []byte
	// Every is how often counters are exchanged. 0: every second.
	Every time.Duration
	// Failed, if not nil, is called when the store has failed. It must not block.
	Failed func(error)
}

// sharing is how the nodes count in a bucket.
type sharing int

const (
	// own: each node for itself.
	own sharing = iota
	// exact: in the store, in the transaction of each use.
	exact
	// exchanged: each node for itself, and what it has counted is added up now and then.
	exchanged
)

// sharingOf decides how a bucket is shared: exactly if it allows less than a use a second, since
// what it is for costs more than a write; by exchange if it is of accounts, whose number is
// bounded; and not at all if it is of networks.
func sharingOf(windows []Window, byAccount bool) sharing {
	switch w := windows[0]; {
	case float64(w.Points) < w.Length.Seconds():
		return exact
	case byAccount:
		return exchanged
	}
	return own
}

// How counters are exchanged.
const (
	// exchangeShare is the part of an allowance that a node gives away before it tells the others.
	exchangeShare = 50
	// exchangeAge is how long it may keep less than that for itself, as a part of the window, and
	// at most.
	exchangeAge    = 20
	maxExchangeAge = 5 * time.Minute
	// exchangeBatch bounds the keys of one transaction.
	exchangeBatch = 200
	// sharedSkew is how far the clocks of nodes may differ.
	sharedSkew = time.Minute
)

// pending is what a node has counted for a key and not told yet.
type pending struct {
	points int
	since  time.Time
}

// unavailable is a failure of the store, after which nothing is allowed.
type unavailable struct{ err error }

func (e *unavailable) Error() string   { return "rate: limits of all nodes together: " + e.err.Error() }
func (e *unavailable) Unwrap() error   { return e.err }
func (*unavailable) Unavailable() bool { return true }

func (l *Limiter) storeFailed(err error) error {
	if s := l.cfg.Shared; s.Failed != nil {
		s.Failed(err)
	}
	return &unavailable{err}
}

// use takes points from a bucket, in the way in which it is shared. An error is one of the store.
func (l *Limiter) use(ctx context.Context, b *bucket, n int, key uint64, now time.Time) (st status, err error) {
	if b == nil {
		return status{ok: true}, nil
	}
	switch b.sharing {
	case exchanged:
		if st = b.take(key, n, now); st.ok && n > 0 {
			b.note(key, n, now)
		}
		return st, nil
	case exact:
		if st, _ = b.apply(b.get(key), n, now); !st.ok {
			return st, nil // what this node knows is enough
		}
		var u usage
		err := l.change(ctx, b, key, n > 0, func(have usage) (usage, bool) {
			st, u = b.apply(have, n, now)
			return u, st.ok
		})
		if err != nil {
			return status{}, err
		}
		b.put(key, u, now)
		return st, nil
	}
	return b.take(key, n, now), nil
}

// hasLeft reports whether n points are left.
func (l *Limiter) hasLeft(ctx context.Context, b *bucket, n int, key uint64, now time.Time) (bool, error) {
	if b == nil || !b.has(key, n, now) || b.sharing != exact {
		return b.has(key, n, now), nil
	}
	err := l.change(ctx, b, key, false, func(have usage) (usage, bool) {
		b.put(key, have, now)
		return have, false
	})
	return b.has(key, n, now), err
}

// back gives points back. What fails stays used.
func (l *Limiter) back(ctx context.Context, b *bucket, n int, key uint64, now time.Time) {
	b.give(key, n, now)
	if b == nil || b.sharing != exact {
		return
	}
	_ = l.change(ctx, b, key, true, func(have usage) (usage, bool) {
		for i, w := range b.windows {
			if !w.over(have[i].ends, now) {
				have[i].used = max(0, have[i].used-n)
			}
		}
		b.put(key, have, now)
		return have, true
	})
}

// change calls fn with what the store knows of a key, and stores what it returns, if it says so and
// writes is set.
func (l *Limiter) change(ctx context.Context, b *bucket, key uint64, writes bool, fn func(usage) (usage, bool)) (err error) {
	if !writes {
		err = l.cfg.Shared.KV.Read(ctx, func(r storage.KVReader) error {
			have, err := b.read(ctx, r, key, l.cfg.Now())
			if err == nil {
				fn(have)
			}
			return err
		})
	} else {
		err = l.cfg.Shared.KV.Write(ctx, func(tx storage.KVTx) error {
			have, err := b.read(ctx, tx, key, l.cfg.Now())
			if err != nil {
				return err
			}
			if u, ok := fn(have); ok {
				return b.write(ctx, tx, key, u)
			}
			return nil
		})
	}
	if err != nil {
		return l.storeFailed(err)
	}
	return nil
}

// note remembers points that others are to be told of. If there is no room, they are not told.
func (b *bucket) note(key uint64, n int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.pending[key]
	if !known {
		if len(b.pending) >= b.max {
			return
		}
		if b.pending == nil {
			b.pending = make(map[uint64]pending)
		}
		p.since = now
	}
	p.points += n
	b.pending[key] = p
}

// due returns keys that others are to be told of.
func (b *bucket) due(now time.Time) (list []uint64) {
	w := b.windows[0]
	share, age := max(1, w.Points/exchangeShare), min(w.Length/exchangeAge, maxExchangeAge)
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, p := range b.pending {
		if p.points >= share || now.Sub(p.since) >= age || p.since.After(now) {
			if list = append(list, key); len(list) == exchangeBatch {
				break
			}
		}
	}
	return list
}

// Run exchanges counters with the other nodes until the context ends, and then once more. Without
// Config.Shared it only waits.
func (l *Limiter) Run(ctx context.Context) {
	if l == nil || l.cfg.Shared == nil {
		<-ctx.Done()
		return
	}
	every := l.cfg.Shared.Every
	if every <= 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.exchange(ctx, l.cfg.Now())
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			l.exchange(last, l.cfg.Now().Add(maxExchangeAge)) // all are due
			return
		}
	}
}

// exchange tells of what is due, and learns what others have counted. If the store fails, each node
// goes on by what it has counted itself.
func (l *Limiter) exchange(ctx context.Context, dueAt time.Time) {
	for _, b := range l.exchanges {
		for {
			list := b.due(dueAt)
			if len(list) == 0 {
				break
			}
			if err := l.exchangeOf(ctx, b, list); err != nil {
				return
			}
			if len(list) < exchangeBatch {
				break
			}
		}
	}
}

func (l *Limiter) exchangeOf(ctx context.Context, b *bucket, list []uint64) error {
	reported := make([]pending, len(list))
	b.mu.Lock()
	for i, key := range list {
		reported[i] = b.pending[key]
	}
	b.mu.Unlock()
	sums := make([]usage, len(list))
	now := l.cfg.Now()
	err := l.cfg.Shared.KV.Write(ctx, func(tx storage.KVTx) error {
		for i, key := range list {
			u, err := b.read(ctx, tx, key, now)
			if err != nil {
				return err
			}
			for k, w := range b.windows {
				if w.over(u[k].ends, now) {
					u[k].used, u[k].ends = 0, now.Add(w.Length)
				}
				u[k].used += reported[i].points
			}
			if err := b.write(ctx, tx, key, u); err != nil {
				return err
			}
			sums[i] = u
		}
		return nil
	})
	if err != nil {
		return l.storeFailed(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, key := range list {
		p := b.pending[key]
		if p.points -= reported[i].points; p.points > 0 {
			p.since = now
			b.pending[key] = p
		} else {
			delete(b.pending, key)
		}
		for k := range b.windows {
			sums[i][k].used += p.points
		}
		b.putLocked(key, sums[i], now)
	}
	return nil
}

// usageVersion begins what is stored of a key: then come, for each window, the points and when it
// ends, in milliseconds, 8 bytes each.
const usageVersion = 1

// storeKey is where the counters of a key are.
func (b *bucket) storeKey(key uint64) string { return fmt.Sprintf("rate/%s/%016x", b.name, key) }

// read reads the counters of a key. Those of other windows count nothing.
func (b *bucket) read(ctx context.Context, r storage.KVReader, key uint64, now time.Time) (u usage, err error) {
	text, err := r.Get(ctx, b.storeKey(key))
	if errors.Is(err, storage.ErrNotFound) {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	return b.parse(text, now), nil
}

func (b *bucket) parse(text []byte, now time.Time) (u usage) {
	if len(text) != 1+16*len(b.windows) || text[0] != usageVersion {
		return u
	}
	for i, w := range b.windows {
		at := text[1+16*i:]
		used, ends := int64(binary.BigEndian.Uint64(at)), time.UnixMilli(int64(binary.BigEndian.Uint64(at[8:])))
		if used < 0 || used > 1<<40 {
			return usage{}
		}
		// A node whose clock is ahead has begun a window that would end later than one of this
		// node.
		if last := now.Add(w.Length); ends.After(last) && !ends.After(last.Add(sharedSkew)) {
			ends = last
		}
		u[i].used, u[i].ends = int(used), ends
	}
	return u
}

func (b *bucket) write(ctx context.Context, tx storage.KVTx, key uint64, u usage) error {
	text := []byte{usageVersion}
	var last time.Time
	for i := range b.windows {
		text = binary.BigEndian.AppendUint64(text, uint64(u[i].used))
		text = binary.BigEndian.AppendUint64(text, uint64(u[i].ends.UnixMilli()))
		if u[i].ends.After(last) {
			last = u[i].ends
		}
	}
	return tx.Set(ctx, b.storeKey(key), text, last.Add(sharedSkew))
}

// sharedHash is a key that is the same on all nodes.
func (l *Limiter) sharedHash(parts []string) uint64 {
	h := sha256.New()
	h.Write(l.cfg.Shared.Secret)
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
