package durable

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pdskit/pdskit/internal/pmap"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// snapshot is the rows of an account as they were when a view began: as they are now, but for what
// was overwritten since.
type snapshot struct {
	c      *core
	did    syntax.DID
	prefix string // of the account's rows
	scope  string // prefix of what it reads
	state  state
	old    pmap.Map[oldValue] // guarded by c.mu
}

// oldValue is what a key had.
type oldValue struct {
	value  []byte
	exists bool
}

// begin makes a snapshot of an account, between its changes. The caller has the turn.
func (a *account) begin() *snapshot {
	v := a.snapshot()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.views[v] = struct{}{}
	return v
}

// snapshot is an account as it is now. What is written later shows in it, unless it is among the
// views of the core, as begin sees to.
func (a *account) snapshot() *snapshot {
	v := &snapshot{c: a.core, did: a.did, prefix: a.place.prefix, scope: a.place.prefix, state: a.state}
	if a.place == (places{}) {
		v.scope = prefixKV // the host's
	}
	return v
}

// reads reports whether a key is one of those that the snapshot reads.
func (v *snapshot) reads(key string) bool { return strings.HasPrefix(key, v.scope) }

// end lets go of a snapshot.
func (v *snapshot) end() {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	delete(v.c.views, v)
}

// get reads a key, or returns storage.ErrNotFound.
func (v *snapshot) get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	if old, ok := v.old.Get(key); ok {
		if !old.exists {
			return nil, storage.ErrNotFound
		}
		return old.value, nil
	}
	return v.c.store.get(key)
}

// Limits on what is read at a time while other calls of the object wait.
const (
	firstPage = 16
	maxPage   = 1024
	pageBytes = 1 << 20
)

// scan calls fn with the pairs of a range until it returns false. most is as Scan.MaxValue.
func (v *snapshot) scan(ctx context.Context, from, to string, reverse bool, most int, fn func(key string, value []byte) bool) error {
	for size := firstPage; ; size = min(2*size, maxPage) {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, more, err := v.page(from, to, reverse, most, size)
		if err != nil {
			return err
		}
		for _, p := range page {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !fn(p.key, p.value) {
				return nil
			}
		}
		if more == "" {
			return nil
		}
		if reverse {
			to = more
		} else {
			from = more + "\x00"
		}
	}
}

// page reads the next pairs of a range. more is the last key that was looked at, or
// empty at the end of the range.
func (v *snapshot) page(from, to string, reverse bool, most, size int) (page []pair, more string, err error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	page, more, err = v.c.store.pairs(Scan{From: from, To: to, Reverse: reverse, Rows: size, MaxValue: most}, pageBytes, func(key string) bool {
		_, changed := v.old.Get(key)
		return changed
	})
	if err != nil {
		return nil, "", fmt.Errorf("durable: object of %s: %w", v.did, err)
	}
	if v.old.Len() > 0 {
		page = v.merge(page, from, to, reverse, more)
	}
	return page, more, nil
}

// merge adds what was overwritten in the part of a range that was looked at.
func (v *snapshot) merge(page []pair, from, to string, reverse bool, more string) []pair {
	switch {
	case more == "":
	case reverse:
		from = more
	default:
		to = more + "\x00"
	}
	before := func(a, b string) bool { return (strings.Compare(a, b) < 0) != reverse }
	var merged []pair
	i := 0
	for key, old := range v.old.Range(from, to, reverse) {
		for i < len(page) && before(page[i].key, key) {
			merged = append(merged, page[i])
			i++
		}
		if old.exists {
			merged = append(merged, pair{key, old.value})
		}
	}
	return append(merged, page[i:]...)
}

// first reports whether there is a key in a range.
func (v *snapshot) first(ctx context.Context, from, to string) (key string, found bool, err error) {
	err = v.scan(ctx, from, to, false, KeysOnly, func(k string, _ []byte) bool {
		key, found = k, true
		return false
	})
	return key, found, err
}

// notFound adds to storage.ErrNotFound what was not found.
func notFound(err error, format string, args ...any) error {
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%w: "+format, append([]any{storage.ErrNotFound}, args...)...)
	}
	return err
}
