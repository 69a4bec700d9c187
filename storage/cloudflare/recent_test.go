package cloudflare

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// What is known of a table is what is in it, whatever was written, deleted and undone.
func TestRecent(t *testing.T) {
	for seed := range uint64(20) {
		src := rand.New(rand.NewPCG(seed, 1))
		store, err := new(durable.Memory).Open(t.Context(), "did:web:x.test", true)
		if err != nil {
			t.Fatal(err)
		}
		var r recent
		hits := 0
		key := func() string { return fmt.Sprintf("%c%c", 'a'+src.IntN(3), 'a'+src.IntN(6)) }
		value := func() []byte { return make([]byte, []int{0, 3, recentValue, recentValue + 1}[src.IntN(4)]) }
		span := func() (from, to string) {
			if from, to = key(), key(); from > to {
				from, to = to, from
			}
			if src.IntN(4) == 0 {
				to = from + "\x00"
			} else if src.IntN(4) == 0 {
				to = ""
			}
			return from, to
		}
		read := func() {
			if src.IntN(2) == 0 {
				k := key()
				want, err := store.Get(k)
				there := err == nil
				if err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Fatal(err)
				}
				if got, found, known := r.get(k); !known {
					r.keep(k, want, there)
				} else if hits++; found != there || string(got) != string(want) {
					t.Fatalf("seed %d: %q is %t %d bytes, and known as %t %d bytes", seed, k, there, len(want), found, len(got))
				}
				return
			}
			s := durable.Scan{Reverse: src.IntN(2) == 0, MaxValue: src.IntN(3) - 1}
			s.From, s.To = span()
			rows := 1 + src.IntN(3)
			want := scanned{scan: s, rows: rows}
			n := 0
			err := store.Scan(s, func(k string, v []byte) bool {
				if n++; n > rows {
					want.more = true
					return false
				}
				want.bytes = appendOp(want.bytes, opSet, k, v)
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, known := r.find(s, rows); !known {
				r.add(want)
			} else if hits++; string(got.bytes) != string(want.bytes) || got.more != want.more {
				t.Fatalf("seed %d: %+v is %q, and known as %q", seed, s, want.bytes, got.bytes)
			}
		}
		undone := errors.New("undone")
		for range 300 {
			read()
			err := store.Transact(func() error {
				for range src.IntN(4) {
					if src.IntN(3) > 0 {
						k, v := key(), value()
						if err := store.Set(k, v); err != nil {
							return err
						}
						r.set(k, v)
					} else {
						from, to := span()
						if err := store.Delete(from, to); err != nil {
							return err
						}
						r.delete(from, to)
					}
					read()
					read()
				}
				if src.IntN(8) == 0 {
					return undone
				}
				return nil
			})
			if err == undone {
				r.forget()
			} else if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				read()
			}
		}
		if hits < 100 {
			t.Errorf("seed %d: %d times something was known", seed, hits)
		}
	}
}

// Not more is kept than the bounds say.
func TestRecentIsBounded(t *testing.T) {
	var r recent
	for i := range 10_000 {
		key := fmt.Sprintf("key%d", i)
		r.keep(key, make([]byte, 200), true)
		r.add(scanned{scan: durable.Scan{From: key}, rows: 1, bytes: make([]byte, recentPage)})
		r.add(scanned{scan: durable.Scan{From: key}, rows: 2, bytes: make([]byte, recentPage+1)})
	}
	sum := 0
	for key, row := range r.rows {
		sum += len(key) + len(row.value)
	}
	if sum != r.bytes || sum > recentBytes+recentValue+8 || sum < 300 {
		t.Errorf("%d bytes of rows are kept, counted as %d", sum, r.bytes)
	}
	if len(r.pages) != recentPages {
		t.Errorf("%d pages are kept", len(r.pages))
	}
	r.keep("large", make([]byte, recentValue+1), true)
	if _, _, known := r.get("large"); known {
		t.Error("a large value is kept")
	}
}
