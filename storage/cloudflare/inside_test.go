//go:build js

package cloudflare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// These tests run inside a Durable Object: see TestInside. In Node.js there is none.
var here, hereErr = Here()

func object(tb testing.TB, table string) *Object {
	tb.Helper()
	if hereErr != nil {
		tb.Skip(hereErr)
	}
	o, err := here.Object(table)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func TestObject(t *testing.T) {
	tables := map[string]string{}
	durabletest.RunObject(t, func(tb testing.TB, name string) durable.Object {
		if tables[name] == "" {
			tables[name] = fmt.Sprintf("object%d", len(tables))
		}
		return object(tb, tables[name])
	})
}

// The whole contract of package storage, of a Solo in a table, with its blobs in memory.
func TestStore(t *testing.T) {
	if hereErr != nil {
		t.Skip(hereErr)
	}
	type kept struct {
		table  string
		bucket *buckettest.Memory
		rows   storage.KV
	}
	dirs := map[string]kept{}
	storagetest.Run(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			k, ok := dirs[dir]
			if !ok {
				k = kept{fmt.Sprintf("store%d", len(dirs)), new(buckettest.Memory), memory.New(memory.Config{}).KV}
				dirs[dir] = k
			}
			ctx := context.Background()
			s, err := durable.OpenSolo(ctx, func(context.Context) (durable.Object, error) {
				return object(tb, k.table), nil
			}, durable.SoloConfig{})
			if err != nil {
				tb.Fatal(err)
			}
			all := s.Store()
			if all.Blobs, err = bucket.Open(ctx, bucket.Config{KV: k.rows, Bucket: k.bucket}); err != nil {
				tb.Fatal(err)
			}
			return all, s.Close
		},
		Exclusive: true,
	})
}

func TestBucket(t *testing.T) {
	if hereErr != nil {
		t.Skip(hereErr)
	}
	buckettest.Run(t, func(tb testing.TB) bucket.Bucket {
		b, err := here.Bucket("BLOBS")
		if err != nil {
			tb.Fatal(err)
		}
		b.(*r2).page = 7
		return b
	})
}

// A temporary file has what was written to it, wherever it is read, and nothing is left of it.
func TestTemp(t *testing.T) {
	if hereErr != nil {
		t.Skip(hereErr)
	}
	left, err := here.Object("temp")
	if err != nil {
		t.Fatal(err)
	}
	if err := left.writeNow(appendOp(nil, opSet, "left by another program", "x")); err != nil {
		t.Fatal(err)
	}
	temp, err := here.Temp("temp")
	if err != nil {
		t.Fatal(err)
	}
	rows := func() (n int) {
		if err := left.Scan(durable.Scan{}, func(string, []byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := rows(); n != 0 {
		t.Errorf("%d rows of an earlier program", n)
	}
	src := rand.New(rand.NewPCG(1, 2))
	var files [2]car.TempFile
	var want [2][]byte
	for i := range files {
		if files[i], err = temp(0); err != nil {
			t.Fatal(err)
		}
	}
	for range 300 {
		i := src.IntN(2)
		f := files[i]
		switch src.IntN(8) {
		case 0:
			if src.IntN(10) == 0 {
				if err := f.Truncate(0); err != nil {
					t.Fatal(err)
				}
				want[i] = nil
			}
		case 1, 2, 3:
			b := make([]byte, src.IntN(tempBytes+100))
			for j := range b {
				b[j] = byte(src.Uint32())
			}
			if n, err := f.WriteAt(b, int64(len(want[i]))); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			want[i] = append(want[i], b...)
		default:
			from := src.IntN(len(want[i]) + 1)
			b := make([]byte, src.IntN(2*tempBytes))
			n, err := f.ReadAt(b, int64(from))
			if short := n < len(b); short != (err == io.EOF) || !short && err != nil || !bytes.Equal(b[:n], want[i][from:min(from+len(b), len(want[i]))]) {
				t.Fatalf("%d bytes at %d of %d: %d, %v", len(b), from, len(want[i]), n, err)
			}
		}
	}
	if _, err := files[0].WriteAt([]byte("x"), int64(len(want[0]))+1); err == nil {
		t.Error("a gap was written")
	}
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); err == nil {
			t.Error("read after Close")
		}
	}
	if n := rows(); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// A transaction that is undone takes nothing along that was written meanwhile: neither a temporary file
// nor a transaction of another table.
func TestTransactionsOfTables(t *testing.T) {
	one, other := object(t, "tables_one"), object(t, "tables_other")
	temp, err := here.Temp("tables_temp")
	if err != nil {
		t.Fatal(err)
	}
	file, err := temp(0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := bytes.Repeat([]byte("temporary"), tempBytes/4)
	undone := errors.New("undone")
	var writers sync.WaitGroup
	err = one.Transact(func() error {
		writers.Go(func() {
			if _, err := file.WriteAt(want, 0); err != nil {
				t.Error(err)
			}
		})
		writers.Go(func() {
			if err := other.Transact(func() error { return other.Set("key", []byte("value")) }); err != nil {
				t.Error(err)
			}
		})
		for range 100 {
			runtime.Gosched()
		}
		return errors.Join(one.Set("key", []byte("value")), undone)
	})
	writers.Wait()
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := file.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file is another one: %v", err)
	}
	if b, err := other.Get("key"); err != nil || string(b) != "value" {
		t.Errorf("the other transaction has left %q, %v", b, err)
	}
	if b, err := one.Get("key"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what was undone is there: %q, %v", b, err)
	}
}

// The clocks of TestInsideFrozen do stand still.
func TestClockStandsStill(t *testing.T) {
	start, n := time.Now(), 0
	for i := range 30_000_000 {
		n += i & 1
	}
	if now := time.Now(); !now.Equal(start) || now.Sub(start) != 0 || n == 0 {
		t.Errorf("%v have passed", now.Sub(start))
	}
	time.Sleep(2 * time.Millisecond)
	if !time.Now().After(start) {
		t.Error("nothing has passed after a timer")
	}
}
