package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// valuesIn opens an object in memory for values of any length.
func valuesIn(t *testing.T) *values {
	t.Helper()
	o, err := new(Memory).Open(t.Context(), alice, true)
	if err != nil {
		t.Fatal(err)
	}
	return &values{Object: o}
}

func (v *values) do(t *testing.T, fn func() error) {
	t.Helper()
	if err := v.Transact(fn); err != nil {
		t.Fatal(err)
	}
}

// keysIn counts the rows of an object.
func keysIn(t *testing.T, o Object) (n int) {
	t.Helper()
	if err := o.Scan(Scan{MaxValue: KeysOnly}, func(string, []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLongValues writes values of all lengths around those of pieces over each other.
func TestLongValues(t *testing.T) {
	v := valuesIn(t)
	rng := rand.New(rand.NewPCG(1, 9))
	want := map[string][]byte{}
	sizes := []int{0, 1, MaxValue - 1, MaxValue, MaxValue + 1, 2*MaxValue - 1, 2 * MaxValue, 2*MaxValue + 1, 3*MaxValue + 7}
	keys := []string{"a", "a\x00", "a\x00\x01", "a\x00\xff", "b", "\xff"}
	for range 40 {
		key := keys[rng.IntN(len(keys))]
		value := bytes.Repeat([]byte{byte(rng.IntN(256))}, sizes[rng.IntN(len(sizes))])
		v.do(t, func() error { return v.set(key, value) })
		want[key] = value
	}
	check := func(when string) {
		t.Helper()
		list, _, err := v.pairs(Scan{From: "a"}, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for key, value := range want {
			i := slices.IndexFunc(list, func(p pair) bool { return p.key == key })
			got, err := v.get(key)
			if err != nil || i < 0 || !bytes.Equal(got, value) || !bytes.Equal(list[i].value, value) {
				t.Errorf("%s: %q has %d bytes, %v; want %d", when, key, len(got), err, len(value))
			}
			rows += 1 + len(value)/MaxValue
		}
		if len(list) != len(want) || keysIn(t, v) != rows {
			t.Errorf("%s: %d values in %d rows, want %d in %d", when, len(list), keysIn(t, v), len(want), rows)
		}
	}
	check("written")
	for _, r := range [][2]string{{"a\x00", "a\x00\x00"}, {"a\x00\x01", "b"}, {"b", ""}, {"", "b"}} {
		v.do(t, func() error { return v.delete(r[0], r[1]) })
		for key := range want {
			if key >= r[0] && (r[1] == "" || key < r[1]) {
				delete(want, key)
			}
		}
		check(fmt.Sprintf("deleted %q", r))
	}
}

// A piece that is missing, or too long, is noticed.
func TestMissingPieces(t *testing.T) {
	value := make([]byte, 3*MaxValue+5)
	for name, spoil := range map[string]func(v *values) error{
		"first": func(v *values) error { k := pieceKey("a") + pieceName(0); return v.Delete(k, k+"\x00") },
		"last":  func(v *values) error { k := pieceKey("a") + pieceName(2); return v.Delete(k, k+"\x00") },
		"all":   func(v *values) error { return v.Delete(keyPiece, keyPieceEnd) },
		"added": func(v *values) error { return v.Set(pieceKey("a")+pieceName(3), []byte("x")) },
	} {
		v := valuesIn(t)
		v.do(t, func() error { return errors.Join(v.set("a", value), v.set("b", value), spoil(v)) })
		if _, err := v.get("a"); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLargeEvents: outbox and log hold events of many megabytes, and accounts keys, in rows that an
// object takes; a view keeps what is overwritten.
func TestLargeEvents(t *testing.T) {
	open := map[string]func() (storage.Store, func() error){
		"DB": func() (storage.Store, func() error) {
			db := newDB(t, Config{})
			return db.Store(), db.Close
		},
		"Solo": func() (storage.Store, func() error) {
			m := new(Memory)
			s, err := OpenSolo(ctx, func(ctx context.Context) (Object, error) { return m.Open(ctx, "solo", true) }, SoloConfig{})
			if err != nil {
				t.Fatal(err)
			}
			return s.Store(), s.Close
		},
	}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			s, done := open()
			large := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 5_000_000+n) }
			for n := 1; n <= 2; n++ {
				c := change(alice, n, storage.KVWrite{Key: "large", Value: large(n)})
				c.Events[0].Payload = large(n)
				if n == 1 {
					if _, err := s.Repos.Apply(ctx, alice, c); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err := s.Repos.View(ctx, alice, func(r storage.Reader) error {
					if _, err := s.Repos.Apply(ctx, alice, c); err != nil {
						return err
					}
					v, err := r.Get(ctx, "large")
					if !bytes.Equal(v, large(1)) {
						t.Errorf("a view of the first value has %d bytes", len(v))
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			apply := change(alice, 3, storage.KVWrite{Key: "large", Value: []byte("small")})
			if _, err := s.Repos.Apply(ctx, alice, apply); err != nil {
				t.Fatal(err)
			}
			n := 0
			for ev, err := range s.Events.Since(ctx, 0) {
				if n++; err != nil || n < 3 && !bytes.Equal(ev.Payload, large(n)) {
					t.Errorf("event %d: %d bytes, %v", n, len(ev.Payload), err)
				}
			}
			if n != 3 {
				t.Errorf("%d events", n)
			}
			if err := done(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A way that is not in the table stops the program, and all phases can be left but the last.
func TestPhases(t *testing.T) {
	all := []phase{opening, unknown, settled, owing, doubtful, closing, gone}
	for _, from := range all {
		if len(transitions[from]) == 0 && from != gone {
			t.Errorf("%v cannot be left", from)
		}
		for _, to := range all {
			var p phases
			p.now.Store(uint32(from))
			func() {
				defer func() {
					if stopped := recover() != nil; stopped == slices.Contains(transitions[from], to) {
						t.Errorf("%v to %v: stopped=%v", from, to, stopped)
					}
				}()
				p.to(to)
				if !p.is(to) {
					t.Errorf("%v to %v", from, to)
				}
			}()
		}
	}
}
