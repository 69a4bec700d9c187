package car

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/tempfile/temptest"
)

// TestTable: entries are found in memory, in runs of all levels, and after they were merged; also
// those whose keys begin alike, which fill more than a page.
func TestTable(t *testing.T) {
	for name, sameStart := range map[string]bool{"random keys": false, "keys that begin alike": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tb := newTable(TempDir(dir), nil)
			tb.most = 50
			rng := rand.New(rand.NewPCG(7, 7))
			const n = 50 * fanIn * (fanIn + 2)
			keys := make([]key, n)
			for i := range keys {
				binary.BigEndian.PutUint64(keys[i].digest[:], rng.Uint64())
				if sameStart {
					binary.BigEndian.PutUint64(keys[i].digest[:], uint64(i/2000))
				}
				binary.BigEndian.PutUint64(keys[i].digest[20:], uint64(i))
				keys[i].codec = dag.CBOR
			}
			check := func(upTo int) {
				t.Helper()
				for i, k := range keys {
					p, ok, err := tb.get(k)
					if err != nil || ok != (i < upTo) || ok && p != (place{int64(i), int32(i % 7)}) {
						t.Fatalf("entry %d of %d: %v %v %v", i, upTo, p, ok, err)
					}
					if k.codec = dag.Raw; i%100 == 0 {
						if _, ok, err := tb.get(k); ok || err != nil {
							t.Fatalf("another codec is found: %v", err)
						}
					}
				}
			}
			for i, k := range keys {
				if err := tb.add(k, place{int64(i), int32(i % 7)}); err != nil {
					t.Fatal(err)
				}
				if err := tb.add(keys[i/2], place{int64(i / 2), int32(i / 2 % 7)}); err != nil { // repeated
					t.Fatal(err)
				}
				if i == 10 || i == 1000 {
					check(i + 1)
				}
			}
			if len(tb.runs) > 3*fanIn || len(tb.fresh) > tb.most {
				t.Errorf("%d runs, %d entries in memory", len(tb.runs), len(tb.fresh))
			}
			check(n)
			if err := tb.settle(); err != nil {
				t.Fatal(err)
			}
			check(n)
			if len(tb.runs) != 1 || tb.runs[0].n > n {
				t.Errorf("%d runs, of %d entries", len(tb.runs), tb.runs[0].n)
			}
			if err := tb.close(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
				t.Errorf("files left behind: %v, %v", left, err)
			}
		})
	}
}

// Whichever call fails, the table says so or has all entries, counts its bytes right, and leaves no
// file.
func TestTableOverFailingFiles(t *testing.T) {
	t.Run("many runs", func(t *testing.T) { tableOverFailingFiles(t, 40, 2*fanIn+3) })
	// Their files are longer than what is read at once.
	t.Run("long runs", func(t *testing.T) { tableOverFailingFiles(t, 1500, 2) })
}

// tableOverFailingFiles fails each call of a table of so many runs with so many entries.
func tableOverFailingFiles(t *testing.T, entries, runs int) {
	run := func(temps *temptest.Temps) (err error) {
		held := int64(0)
		tb := newTable(func(most int64) (TempFile, error) {
			f, err := temps.Open(most)
			if err != nil {
				return nil, err
			}
			return f, nil
		}, func(n int64) error { held += n; return nil })
		tb.most = entries
		defer func() {
			err = errors.Join(err, tb.close())
			if held != 0 {
				t.Errorf("call %d failed: %d bytes are held after the end", temps.FailAt, held)
			}
		}()
		at := func(i int) (k key) {
			binary.BigEndian.PutUint64(k.digest[:], uint64(i)*0x9e3779b97f4a7c15)
			return k
		}
		n := entries * runs
		for i := range n {
			if err := tb.add(at(i), place{int64(i), 0}); err != nil {
				return err
			}
		}
		if want := int64(n-len(tb.fresh)) * int64(entryLen); held != want {
			t.Errorf("%d bytes are held for files of %d", held, want)
		}
		if err := tb.settle(); err != nil {
			return err
		}
		for i := 0; i < n; i += max(20, n/20) {
			if p, ok, err := tb.get(at(i)); err != nil || !ok || p.off != int64(i) {
				return errors.Join(err, fmt.Errorf("entry %d: %v", i, p))
			}
		}
		return nil
	}
	good := new(temptest.Temps)
	if err := run(good); err != nil {
		t.Fatal(err)
	}
	good.Check(t)
	for i := 1; i <= good.Calls(); i++ {
		bad := &temptest.Temps{FailAt: i}
		if err := run(bad); err != nil && !errors.Is(err, temptest.ErrFault) {
			t.Fatalf("call %d: %v", i, err)
		}
		bad.Check(t)
	}
}

// Eight runs of a level become one of the next, so that an entry is written a few times only.
func TestTableMergesByLevels(t *testing.T) {
	tb := newTable(TempDir(t.TempDir()), nil)
	tb.most = 1
	for i := range fanIn*fanIn + fanIn + 1 {
		var k key
		binary.BigEndian.PutUint64(k.digest[:], uint64(i))
		if err := tb.add(k, place{int64(i), 1}); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []run{{level: 2, n: fanIn * fanIn}, {level: 1, n: fanIn}, {level: 0, n: 1}} {
		if len(tb.runs) != 3 || tb.runs[i].level != want.level || tb.runs[i].n != want.n {
			t.Errorf("run %d of %d: %+v", i, len(tb.runs), tb.runs[i])
		}
	}
	if err := tb.close(); err != nil {
		t.Error(err)
	}
	if tb.runs != nil || tb.fresh != nil {
		t.Error("a table that is closed has entries")
	}
}
