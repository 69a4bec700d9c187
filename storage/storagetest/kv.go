package storagetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// kvChecks are the laws of KV.
func kvChecks() []check {
	return []check{
		{name: "KV/SetGetDelete", law: kvBasics},
		{name: "KV/Ranges", law: kvRanges},
		{name: "KV/ByteOrder", law: kvByteOrder},
		{name: "KV/Expiry", law: kvExpiry},
		{name: "KV/OwnWrites", law: kvOwnWrites},
		{name: "KV/Rollback", law: kvRollback},
		{name: "KV/Snapshot", law: kvSnapshot, needs: snapshots},
		{name: "KV/Counter", law: kvCounter},
		{name: "KV/WriteSkew", law: kvWriteSkew},
		{name: "KV/Phantom", law: kvPhantom},
		{name: "KV/InputIsCopied", law: kvInputIsCopied},
		{name: "KV/OwnedResults", law: kvOwned},
		{name: "KV/Nested", law: kvNested},
		{name: "KV/Canceled", law: kvCanceled},
		{name: "KV/CancelInside", law: kvCancelInside},
		{name: "KV/Reopen", law: kvReopen, needs: persistence},
		{name: "KV/Kill", law: kvKill, needs: persistence},
		{name: "KV/Shared", law: kvShared, needs: sharing},
	}
}

// set stores values for good.
func (e *env) set(pairs ...string) {
	e.Helper()
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Set(e.ctx, pairs[i], []byte(pairs[i+1]), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	}), "Write")
}

// has compares one key: want is the value, or "missing".
func (e *env) has(r storage.KVReader, key, want string) {
	e.Helper()
	got, err := r.Get(e.ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		e.same("missing", want, "key %q", key)
		return
	}
	e.ok(err, "Get(%q)", key)
	e.same(string(got), want, "key %q", key)
	if got == nil {
		e.Errorf("key %q: nil is no value", key)
	}
}

func (e *env) read(fn func(r storage.KVReader)) {
	e.Helper()
	e.ok(e.KV.Read(e.ctx, func(r storage.KVReader) error {
		fn(r)
		return nil
	}), "Read")
}

func kvBasics(e *env) {
	e.read(func(r storage.KVReader) { e.has(r, "a", "missing") })
	e.set("a", "1", "b", "2", "empty", "")
	e.read(func(r storage.KVReader) {
		e.has(r, "a", "1")
		e.has(r, "b", "2")
		e.has(r, "empty", "")
		e.has(r, "c", "missing")
		e.has(r, "", "missing")
	})
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		return errors.Join(
			tx.Set(e.ctx, "a", []byte("3"), time.Time{}),
			tx.Delete(e.ctx, "b"),
			tx.Delete(e.ctx, "never there"),
		)
	}), "Write")
	e.read(func(r storage.KVReader) {
		e.has(r, "a", "3")
		e.has(r, "b", "missing")
		e.has(r, "empty", "")
	})
	err := e.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "", []byte("x"), time.Time{}) })
	if err == nil {
		e.Errorf("an empty key was stored")
	}
	big := string(make([]byte, 1<<20))
	e.set("big", big)
	e.read(func(r storage.KVReader) { e.has(r, "big", big) })
}

func kvRanges(e *env) {
	keys := []string{"a", "a\x00", "a/1", "a/2", "b", "c"}
	for _, k := range keys {
		e.set(k, "value of "+k)
	}
	e.read(func(r storage.KVReader) { e.keyRanges(r, keys) })
}

func kvByteOrder(e *env) {
	keys := []string{"\x00", "\x00\x00", "A", "a", "a\x00b", "aB", "ab", "a\xff", "é", "z", "\xc3", "\xff", "\xff\xff", "10", "9"}
	for _, k := range keys {
		e.set(k, k)
	}
	slices.Sort(keys)
	e.read(func(r storage.KVReader) {
		var got []string
		for p, err := range r.Keys(e.ctx, storage.Range{}) {
			e.ok(err, "Keys")
			got = append(got, p.Key)
			e.has(r, p.Key, p.Key)
		}
		e.same(fmt.Sprintf("%q", got), fmt.Sprintf("%q", keys), "keys")
		got = nil
		for p, err := range r.Keys(e.ctx, storage.Range{From: "a", To: "b"}) {
			e.ok(err, "Keys")
			got = append(got, p.Key)
		}
		e.same(fmt.Sprintf("%q", got), fmt.Sprintf("%q", selected(keys, storage.Range{From: "a", To: "b"})), "keys from a to b")
	})
}

func kvExpiry(e *env) {
	future, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	put := func(key string, expires time.Time) {
		e.Helper()
		e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, key, []byte("1"), expires) }), "Write")
	}
	put("a", future)
	put("b", past)
	put("c", time.Time{})
	put("d", past)
	put("d", time.Time{})
	put("e", time.Time{})
	put("e", past)
	soon := time.Now().Add(30 * time.Millisecond)
	put("soon", soon)
	check := func(r storage.KVReader) {
		e.Helper()
		for key, want := range map[string]string{"a": "1", "b": "missing", "c": "1", "d": "1", "e": "missing"} {
			e.has(r, key, want)
		}
		pairs, err := collect(r.Keys(e.ctx, storage.Range{To: "f"}))
		e.ok(err, "Keys")
		var got []string
		for _, p := range pairs {
			got = append(got, pairString(p))
		}
		e.same(got, []string{
			pairString(storage.KVPair{Key: "a", Value: []byte("1"), Expires: future}),
			pairString(storage.KVPair{Key: "c", Value: []byte("1")}),
			pairString(storage.KVPair{Key: "d", Value: []byte("1")}),
		}, "keys that live")
	}
	e.read(check)
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		check(tx)
		return nil
	}), "Write")
	for !time.Now().After(soon.Add(2 * time.Millisecond)) {
		time.Sleep(time.Millisecond)
	}
	e.read(func(r storage.KVReader) { e.has(r, "soon", "missing") })
	e.reopen()
	if !e.backend.Volatile {
		e.read(check)
	}
}

func kvOwnWrites(e *env) {
	e.set("a", "1", "b", "1", "d", "1")
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		e.has(tx, "a", "1")
		e.ok(tx.Set(e.ctx, "a", []byte("2"), time.Time{}), "Set")
		e.ok(tx.Delete(e.ctx, "b"), "Delete")
		e.ok(tx.Set(e.ctx, "c", []byte("2"), time.Time{}), "Set")
		e.ok(tx.Set(e.ctx, "x", []byte("2"), time.Time{}), "Set")
		e.ok(tx.Delete(e.ctx, "x"), "Delete")
		e.ok(tx.Set(e.ctx, "y", []byte("2"), time.Now().Add(-time.Hour)), "Set")
		e.has(tx, "a", "2")
		e.has(tx, "b", "missing")
		e.has(tx, "c", "2")
		e.has(tx, "x", "missing")
		e.has(tx, "y", "missing")
		for _, reverse := range []bool{false, true} {
			var got []string
			for p, err := range tx.Keys(e.ctx, storage.Range{Reverse: reverse}) {
				e.ok(err, "Keys")
				got = append(got, p.Key+string(p.Value))
			}
			want := []string{"a2", "c2", "d1"}
			if reverse {
				slices.Reverse(want)
			}
			e.same(got, want, "keys in the transaction")
		}
		return nil
	}), "Write")
}

func kvRollback(e *env) {
	e.set("a", "1", "b", "1")
	mine := errors.New("mine")
	e.unchanged("a transaction that failed", func() {
		err := e.KV.Write(e.ctx, func(tx storage.KVTx) error {
			e.ok(tx.Set(e.ctx, "a", []byte("2"), time.Time{}), "Set")
			e.ok(tx.Set(e.ctx, "c", []byte("2"), time.Time{}), "Set")
			e.ok(tx.Delete(e.ctx, "b"), "Delete")
			return mine
		})
		e.fails(err, mine, "Write")
	})
	e.fails(e.KV.Read(e.ctx, func(storage.KVReader) error { return mine }), mine, "Read")
	e.set("a", "3")
	e.read(func(r storage.KVReader) { e.has(r, "a", "3") })
}

// kvSnapshot: nothing that is written during a Read shows in it, and the writer
// need not wait.
func kvSnapshot(e *env) {
	e.set("a", "1", "b", "1", "c", "1")
	other := e.another()
	e.read(func(r storage.KVReader) {
		e.has(r, "a", "1")
		n := 0
		for p, err := range r.Keys(e.ctx, storage.Range{}) {
			e.ok(err, "Keys")
			if n++; n == 1 {
				e.within("a writer beside a Read", func() {
					err := other.KV.Write(e.ctx, func(tx storage.KVTx) error {
						return errors.Join(
							tx.Set(e.ctx, "a", []byte("2"), time.Time{}),
							tx.Set(e.ctx, "b", []byte("2"), time.Time{}),
							tx.Delete(e.ctx, "c"),
							tx.Set(e.ctx, "d", []byte("2"), time.Time{}))
					})
					if err != nil {
						e.Errorf("Write: %v", err)
					}
				})
			}
			e.same(string(p.Value), "1", "value of %q in an iteration", p.Key)
		}
		e.same(n, 3, "keys in the iteration")
		e.has(r, "a", "1")
		e.has(r, "c", "1")
		e.has(r, "d", "missing")
	})
	e.read(func(r storage.KVReader) {
		e.has(r, "a", "2")
		e.has(r, "c", "missing")
		e.has(r, "d", "2")
	})
}

// number reads a number; a missing key is 0.
func number(ctx context.Context, r storage.KVReader, key string) (n int, err error) {
	b, err := r.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		_, err = fmt.Sscan(string(b), &n)
	}
	return n, err
}

// race runs fn in several goroutines, each with one of the handles.
func (e *env) race(n int, fn func(kv storage.KV, i int) error) {
	e.Helper()
	handles := e.racers()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := fn(handles[i%len(handles)].KV, i); err != nil {
				e.Errorf("racing transactions: %v", err)
			}
		})
	}
	e.within("racing transactions", wg.Wait)
}

// kvCounter: no increment is lost.
func kvCounter(e *env) {
	const racers, times = 6, 25
	e.race(racers, func(kv storage.KV, _ int) error {
		for range times {
			err := kv.Write(e.ctx, func(tx storage.KVTx) error {
				n, err := number(e.ctx, tx, "n")
				if err != nil {
					return err
				}
				runtime.Gosched()
				return tx.Set(e.ctx, "n", fmt.Append(nil, n+1), time.Time{})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	e.read(func(r storage.KVReader) { e.has(r, "n", fmt.Sprint(racers*times)) })
}

// kvWriteSkew: of two transactions that each read what the other one writes, one
// sees the other's write.
func kvWriteSkew(e *env) {
	for round := range 15 {
		a, b := fmt.Sprint(round, "a"), fmt.Sprint(round, "b")
		e.set(a, "1", b, "1")
		e.race(2, func(kv storage.KV, i int) error {
			return kv.Write(e.ctx, func(tx storage.KVTx) error {
				x, err := number(e.ctx, tx, a)
				if err != nil {
					return err
				}
				y, err := number(e.ctx, tx, b)
				if err != nil || x+y < 2 {
					return err
				}
				time.Sleep(time.Millisecond)
				return tx.Set(e.ctx, []string{a, b}[i], []byte("0"), time.Time{})
			})
		})
		e.read(func(r storage.KVReader) {
			x, _ := number(e.ctx, r, a)
			y, _ := number(e.ctx, r, b)
			e.same(x+y, 1, "sum of two keys of which one transaction may clear one")
		})
	}
}

// kvPhantom: a transaction that counts the keys of a range sees those that others
// insert.
func kvPhantom(e *env) {
	const racers, times = 4, 10
	e.race(racers, func(kv storage.KV, i int) error {
		for range times {
			err := kv.Write(e.ctx, func(tx storage.KVTx) error {
				list, err := collect(tx.Keys(e.ctx, storage.Range{From: "n/", To: "n0", KeysOnly: true}))
				if err != nil {
					return err
				}
				runtime.Gosched()
				return tx.Set(e.ctx, fmt.Sprintf("n/%04d", len(list)), fmt.Append(nil, i), time.Time{})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	e.read(func(r storage.KVReader) {
		list, err := collect(r.Keys(e.ctx, storage.Range{}))
		e.ok(err, "Keys")
		e.same(len(list), racers*times, "keys that transactions have numbered")
	})
}

func kvInputIsCopied(e *env) {
	b := []byte("value")
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		if err := tx.Set(e.ctx, "a", b, time.Time{}); err != nil {
			return err
		}
		scribble(b)
		e.has(tx, "a", "value")
		copy(b, "value") // for another run of the transaction
		return nil
	}), "Write")
	scribble(b)
	e.read(func(r storage.KVReader) { e.has(r, "a", "value") })
}

func kvCanceled(e *env) {
	e.set("a", "1")
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.unchanged("a canceled call", func() {
		e.canceled(map[string]func() error{
			"Read": func() error { return e.KV.Read(ctx, func(storage.KVReader) error { return nil }) },
			"Write": func() error {
				return e.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "a", []byte("2"), time.Time{}) })
			},
		})
		e.read(func(r storage.KVReader) {
			e.canceled(map[string]func() error{
				"Get":  func() error { _, err := r.Get(ctx, "a"); return err },
				"Keys": func() error { _, err := collect(r.Keys(ctx, storage.Range{})); return err },
			})
		})
		// The context ends inside the transaction.
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		err := e.KV.Write(ctx, func(tx storage.KVTx) error {
			err := tx.Set(ctx, "a", []byte("2"), time.Time{})
			cancel()
			return err
		})
		e.fails(err, context.Canceled, "Write, canceled inside")
		err = e.KV.Write(e.ctx, func(tx storage.KVTx) error {
			if err := tx.Set(ctx, "a", []byte("2"), time.Time{}); err != nil {
				return err
			}
			return tx.Delete(ctx, "a")
		})
		e.fails(err, context.Canceled, "Set with a canceled context")
	})
}

func kvCancelInside(e *env) {
	const many = 3000
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		for i := range many {
			if err := tx.Set(e.ctx, fmt.Sprintf("%04d", i), []byte("x"), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	}), "Write")
	e.read(func(r storage.KVReader) {
		stops(e, many, "Keys", func(ctx context.Context) iterator { return untyped(r.Keys(ctx, storage.Range{})) })
		list, err := collect(r.Keys(e.ctx, storage.Range{}))
		e.ok(err, "Keys")
		e.same(len(list), many, "keys after all that")
	})
}

// kvSteps are transactions of all kinds.
func (e *env) kvSteps() []func() {
	return []func(){
		func() { e.set("a", "1", "b", "1") },
		func() { e.set("a", "2", "empty", "") },
		func() {
			e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
				return errors.Join(tx.Delete(e.ctx, "b"), tx.Set(e.ctx, "c", []byte("1"), time.Now().Add(time.Hour)))
			}), "Write")
		},
	}
}

func kvReopen(e *env) {
	for i, step := range e.kvSteps() {
		step()
		before := e.dump()
		e.reopen()
		e.sameLines(e.dump(), before, "keys after step %d and reopening", i)
	}
}

func kvKill(e *env) {
	for i, step := range e.kvSteps() {
		step()
		e.opensAsCopy(fmt.Sprint("after step ", i))
	}
}

func kvShared(e *env) {
	other := e.another()
	for i := range 4 {
		e.set("a", fmt.Sprint(i))
		e.ok(other.KV.Read(e.ctx, func(r storage.KVReader) error {
			e.has(r, "a", fmt.Sprint(i))
			return nil
		}), "Read")
		e.ok(other.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "b", fmt.Append(nil, i), time.Time{}) }), "Write")
		e.read(func(r storage.KVReader) { e.has(r, "b", fmt.Sprint(i)) })
	}
}
