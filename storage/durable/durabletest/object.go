// Package durabletest tests implementations of durable.Object, and code that uses them.
package durabletest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// OpenObject opens an object by its name. It is empty when a name is used for the first time. When
// it is opened again after it was closed, it has the stored data. Failures end the test.
type OpenObject func(tb testing.TB, name string) durable.Object

// RunObject checks an implementation of durable.Object.
func RunObject(t *testing.T, open OpenObject) {
	for _, c := range []struct {
		name string
		law  func(*object)
	}{
		{"Order", order},
		{"Scan", scan},
		{"Values", sizes},
		{"Keys", keys},
		{"OwnWrites", ownWrites},
		{"Rollback", rollback},
		{"Panic", panics},
		{"Refused", refused},
		{"Bytes", ownership},
		{"Reopen", reopen},
		{"Readers", readers},
		{"History", history},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &object{T: t, open: open, name: t.Name()}
			o.Object = open(t, o.name)
			defer func() { o.must(o.Close()) }()
			c.law(o)
		})
	}
}

// object is the object of a test.
type object struct {
	*testing.T
	durable.Object
	open OpenObject
	name string
}

func (o *object) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

// put stores pairs in one transaction.
func (o *object) put(pairs map[string]string) {
	o.Helper()
	o.must(o.Transact(func() error {
		for key, value := range pairs {
			if err := o.Set(key, []byte(value)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// holds checks what is stored, by Get and by Scan.
func (o *object) holds(when string, want map[string]string) {
	o.Helper()
	o.found(when, durable.Scan{}, want)
	for key, value := range want {
		if got, err := o.Get(key); err != nil || string(got) != value {
			o.Errorf("%s: Get(%q) = %.20q (%d bytes), %v; want %.20q (%d bytes)", when, key, got, len(got), err, value, len(value))
		}
	}
}

// found checks what a scan finds, of all that is stored.
func (o *object) found(when string, s durable.Scan, all map[string]string) {
	o.Helper()
	want := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(key string) bool {
		return key < s.From || s.To != "" && key >= s.To
	})
	if s.Reverse {
		slices.Reverse(want)
	}
	if s.Rows > 0 {
		want = want[:min(s.Rows, len(want))]
	}
	n := 0
	err := o.Object.Scan(s, func(key string, value []byte) bool {
		switch {
		case n >= len(want):
			o.Errorf("%s: %+v: %q is one too many", when, s, key)
			return false
		case key != want[n]:
			o.Errorf("%s: %+v: number %d is %q, want %q", when, s, n, key, want[n])
			return false
		}
		v := all[key]
		switch {
		case s.MaxValue < 0:
			v = ""
		case s.MaxValue > 0:
			v = v[:min(len(v), s.MaxValue)]
		}
		if string(value) != v {
			o.Errorf("%s: %+v: %q has %.20q (%d bytes), want %.20q (%d bytes)", when, s, key, value, len(value), v, len(v))
		}
		n++
		return true
	})
	if err != nil {
		o.Errorf("%s: %+v: %v", when, s, err)
	} else if n < len(want) && !o.Failed() {
		o.Errorf("%s: %+v: %d pairs, want %d", when, s, n, len(want))
	}
}

// binary are keys that an order other than that of bytes, or text in place of bytes, would confuse.
var binary = []string{
	"\x00", "\x00\x00", "\x00\xff", "\x01", "A", "B", "Z", "_", "a", "a\x00", "a\x00b", "a ", "a\x7f", "a\x80", "a\xc3", "a\xff", "aa",
	"b", "e\u0301", "z", "\x7f", "\x80", "\xc3\x28", "\u00e9", "\ud7ff", "\uffff", "\U0001f600", "\xfe", "\xff", "\xff\x00", "\xff\xff", "'", "%", "\\",
}

func pairsOf(keys []string) map[string]string {
	m := make(map[string]string, len(keys))
	for i, key := range keys {
		m[key] = fmt.Sprint("value ", i)
	}
	return m
}

func order(o *object) {
	want := pairsOf(binary)
	o.put(want)
	o.holds("all", want)
	o.found("backwards", durable.Scan{Reverse: true}, want)
}

func scan(o *object) {
	all := pairsOf(binary)
	o.put(all)
	for i, from := range append([]string{"", "a\x00a", "\xff\xff\xff"}, binary...) {
		for j, to := range append([]string{"", "a\x00a", "\xff\xff\xff"}, binary...) {
			s := durable.Scan{From: from, To: to, Reverse: (i+j)%2 == 0, Rows: (i + j) % 5, MaxValue: (i+2*j)%9 - 1}
			o.found("bounds", s, all)
		}
	}
	for _, rows := range []int{1, 2, len(binary) - 1, len(binary), len(binary) + 1, 1 << 30} {
		o.found("rows", durable.Scan{Rows: rows}, all)
		o.found("rows", durable.Scan{Rows: rows, Reverse: true, MaxValue: durable.KeysOnly}, all)
	}
	for _, n := range []int{1, 3} {
		seen := 0
		o.must(o.Object.Scan(durable.Scan{}, func(string, []byte) bool {
			seen++
			return seen < n
		}))
		if seen != n {
			o.Errorf("a scan that was to end after %d pairs went on to %d", n, seen)
		}
	}
}

func sizes(o *object) {
	big := bytes.Repeat([]byte("0123456789abcdef\x00\xff"), durable.MaxValue/18+1)[:durable.MaxValue]
	want := map[string]string{"empty": "", "zero": "\x00", "zeros": "a\x00\x00", "text": "\xc3\x28", "largest": string(big)}
	o.put(want)
	o.must(o.Transact(func() error { return o.Set("nil", nil) }))
	want["nil"] = ""
	o.holds("sizes", want)
	o.found("cut", durable.Scan{MaxValue: 3}, want)
	o.found("keys only", durable.Scan{MaxValue: durable.KeysOnly}, want)
}

func keys(o *object) {
	if _, err := o.Get("missing"); !errors.Is(err, storage.ErrNotFound) {
		o.Errorf("Get of a missing key: %v", err)
	}
	want := map[string]string{}
	for _, size := range []int{1, 2, 100, 1000, durable.MaxKey - 1, durable.MaxKey} {
		want[strings.Repeat("\xff", size)] = fmt.Sprint(size)
	}
	o.put(want)
	o.holds("long keys", want)
	for _, key := range binary {
		o.put(map[string]string{key: "1"})
		o.put(map[string]string{key: "2"})
		want[key] = "2"
	}
	o.holds("written over", want)
	for _, r := range [][2]string{{"a", "a"}, {"b", "a"}, {"missing", "missing\x00"}} {
		o.must(o.Transact(func() error { return o.Delete(r[0], r[1]) }))
	}
	o.holds("nothing deleted", want)
	for _, r := range [][2]string{{"a\x00", "a\x00\x00"}, {"a\x80", "b"}, {"\xff", ""}, {"", "\x01"}, {"", ""}} {
		o.must(o.Transact(func() error { return o.Delete(r[0], r[1]) }))
		maps.DeleteFunc(want, func(key, _ string) bool { return key >= r[0] && (r[1] == "" || key < r[1]) })
		o.holds(fmt.Sprintf("deleted %q", r), want)
	}
}

func ownWrites(o *object) {
	want := map[string]string{"a": "old", "b": "old", "c": "old", "d": "old"}
	o.put(want)
	o.must(o.Transact(func() error {
		o.must(o.Set("b", []byte("new")))
		o.must(o.Set("bb", []byte("made")))
		o.must(o.Delete("c", "c\x00"))
		want["b"], want["bb"] = "new", "made"
		delete(want, "c")
		o.holds("in the transaction", want)
		o.must(o.Set("c", []byte("again")))
		o.must(o.Delete("a", "b"))
		o.must(o.Set("e", []byte("made")))
		o.must(o.Delete("e", ""))
		want["c"] = "again"
		delete(want, "a")
		o.holds("in the transaction", want)
		o.found("in the transaction", durable.Scan{Reverse: true, Rows: 2, MaxValue: 1}, want)
		if _, err := o.Get("a"); !errors.Is(err, storage.ErrNotFound) {
			o.Errorf("Get of a key that the transaction has deleted: %v", err)
		}
		return nil
	}))
	o.holds("after the transaction", want)
}

// spoil changes all that is stored.
func (o *object) spoil() {
	o.must(o.Set("a", []byte("new")))
	o.must(o.Set("new", []byte("new")))
	o.must(o.Delete("b", "d"))
}

func rollback(o *object) {
	want := map[string]string{"a": "old", "b": "old", "c": "old"}
	o.put(want)
	failed := errors.New("failed")
	for range 2 {
		if err := o.Transact(func() error {
			o.spoil()
			return fmt.Errorf("wrapped: %w", failed)
		}); !errors.Is(err, failed) {
			o.Errorf("Transact returns %v", err)
		}
		o.holds("undone", want)
	}
	o.put(map[string]string{"b": "later"})
	want["b"] = "later"
	o.holds("after a transaction that was undone", want)
}

func panics(o *object) {
	want := map[string]string{"a": "old", "b": "old", "c": "old"}
	o.put(want)
	func() {
		defer func() {
			if p := recover(); p != "here" {
				o.Errorf("the panic became %v", p)
			}
		}()
		_ = o.Transact(func() error {
			o.spoil()
			panic("here")
		})
	}()
	o.holds("undone", want)
	o.put(map[string]string{"b": "later"})
	want["b"] = "later"
	o.holds("after a panic", want)
}

func refused(o *object) {
	want := map[string]string{"a": "old"}
	o.put(want)
	o.must(o.Transact(func() error {
		for key, value := range map[string][]byte{
			"a":                                   make([]byte, durable.MaxValue+1),
			"b":                                   make([]byte, 2*durable.MaxValue),
			strings.Repeat("k", durable.MaxKey+1): nil,
		} {
			if err := o.Set(key, value); !errors.Is(err, durable.ErrTooLarge) {
				o.Errorf("Set of %d and %d bytes: %v", len(key), len(value), err)
			}
		}
		return o.Set("c", []byte("new"))
	}))
	want["c"] = "new"
	o.holds("after values that were refused", want)
}

func ownership(o *object) {
	value := []byte("value")
	o.must(o.Transact(func() error {
		err := o.Set("a", value)
		clear(value)
		return err
	}))
	want := map[string]string{"a": "value"}
	o.holds("the caller has changed what it gave", want)
	got, err := o.Get("a")
	o.must(err)
	clear(got[:cap(got)])
	o.holds("the caller has changed what it got", want)
}

func reopen(o *object) {
	want := pairsOf(binary)
	o.put(want)
	o.must(o.Transact(func() error { return o.Delete("a", "b") }))
	maps.DeleteFunc(want, func(key, _ string) bool { return key >= "a" && key < "b" })
	for range 2 {
		o.must(o.Close())
		o.Object = o.open(o, o.name)
		o.holds("opened again", want)
		o.put(map[string]string{"again": "x"})
		want["again"] = "x"
	}
	other := o.open(o, o.name+"other")
	o.must(other.Scan(durable.Scan{}, func(key string, _ []byte) bool {
		o.Errorf("another object has %q", key)
		return false
	}))
	o.must(other.Close())
}

// readers: Get and Scan may be called while transactions come and go.
func readers(o *object) {
	o.put(map[string]string{"a": "0", "b": "0"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if v, err := o.Get("a"); err != nil || len(v) == 0 {
					o.Errorf("Get: %q, %v", v, err)
				}
				n := 0
				if err := o.Object.Scan(durable.Scan{Rows: 2}, func(string, []byte) bool { n++; return true }); err != nil || n != 2 {
					o.Errorf("Scan: %d pairs, %v", n, err)
				}
			}
		})
	}
	for i := range 50 {
		o.put(map[string]string{"a": fmt.Sprint(i), "b": fmt.Sprint(i)})
	}
	wg.Wait()
	o.holds("after all", map[string]string{"a": "49", "b": "49"})
}

// history compares long random sequences of calls with a map.
func history(o *object) {
	rng := rand.New(rand.NewPCG(3, 4))
	key := func() string {
		b := make([]byte, 1+rng.IntN(3))
		for i := range b {
			b[i] = "\x00\x01ab\xfe\xff"[rng.IntN(6)]
		}
		return string(b)
	}
	bound := func() string {
		if rng.IntN(5) == 0 {
			return ""
		}
		return key()
	}
	want := map[string]string{}
	failed := errors.New("failed")
	for i := range 150 {
		next, ok := maps.Clone(want), rng.IntN(4) > 0
		err := o.Transact(func() error {
			for range rng.IntN(20) {
				if rng.IntN(6) == 0 {
					from, to := bound(), bound()
					if rng.IntN(3) > 0 {
						to = from + "\x00"
					}
					o.must(o.Delete(from, to))
					maps.DeleteFunc(next, func(key, _ string) bool { return key >= from && (to == "" || key < to) })
				} else {
					k, v := key(), strings.Repeat("v", rng.IntN(40))
					o.must(o.Set(k, []byte(v)))
					next[k] = v
				}
				if rng.IntN(4) == 0 {
					o.found("in a transaction", durable.Scan{From: bound(), To: bound(), Rows: rng.IntN(9), Reverse: rng.IntN(2) == 0, MaxValue: rng.IntN(9) - 1}, next)
				}
			}
			if !ok {
				return failed
			}
			return nil
		})
		if ok {
			o.must(err)
			want = next
		} else if !errors.Is(err, failed) {
			o.Errorf("Transact: %v", err)
		}
		o.found("history", durable.Scan{From: bound(), To: bound(), Rows: rng.IntN(9), Reverse: rng.IntN(2) == 0, MaxValue: rng.IntN(9) - 1}, want)
		if i%50 == 49 {
			o.must(o.Close())
			o.Object = o.open(o, o.name)
			o.holds("history", want)
		}
		if o.Failed() {
			return
		}
	}
}
