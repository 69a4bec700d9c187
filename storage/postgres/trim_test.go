//go:build unix

package postgres_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
)

// clock is a clock that tests move.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMicro(c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(d.Microseconds()) }

// The log gets a partition for each span of time in which there are events, and Trim drops those that
// are too old as a whole. A log whose clock has jumped, forwards or back, goes on.
func TestPartitions(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	c := &clock{}
	c.at.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	db := open(t, url, dir, postgres.Config{Now: c.now, Partition: time.Hour, Poll: 20 * time.Millisecond})
	defer db.Close()
	name := schema(t, url, dir)
	parts := func() string { return query(t, url, "SELECT count(*)::text FROM "+name+".part") }
	tables := func() string {
		return query(t, url, "SELECT count(*)::text FROM pg_inherits WHERE inhparent = '"+name+".event'::regclass")
	}
	s := db.Store()
	head := storage.Head{}
	did := didOf(0)
	event := func() int64 {
		t.Helper()
		change := &storage.Change{Prev: head, Head: head, Events: []storage.Event{{DID: did, Kind: "#identity", Time: c.now(), Payload: make([]byte, 5000)}}}
		if head == (storage.Head{}) {
			change.Head, change.Commit = storage.Head{Rev: "3aaaaaaaaaaaa"}, []byte{1}
		}
		seq, err := s.Repos.Apply(testContext, did, change)
		if err != nil {
			t.Fatal(err)
		}
		head = change.Head
		return seq
	}
	var seqs []int64
	for range 12 { // two days, with gaps
		seqs = append(seqs, event(), event())
		c.advance(4 * time.Hour)
	}
	if n := len(replay(t, s)); n != len(seqs) {
		t.Fatalf("%d events, want %d", n, len(seqs))
	}
	many := parts()
	if tables() != many {
		t.Errorf("%s partitions, %s tables", many, tables())
	}
	keep := c.now().Add(-20 * time.Hour)
	if err := s.Events.Trim(testContext, keep); err != nil {
		t.Fatal(err)
	}
	var want int
	for _, seq := range seqs {
		if seq >= keep.UnixMicro() {
			want++
		}
	}
	if got := replay(t, s); len(got) != want || got[0].Seq != seqs[len(seqs)-want] {
		t.Errorf("%d events after Trim, want %d", len(got), want)
	}
	oldest, _, err := s.Events.Bounds(testContext)
	if err != nil || oldest != seqs[len(seqs)-want-1]+1 {
		t.Errorf("oldest is %d (%v), want %d", oldest, err, seqs[len(seqs)-want-1]+1)
	}
	few := parts()
	if few == many || tables() != few {
		t.Errorf("%s partitions before Trim, %s after, %s tables", many, few, tables())
	}
	// None of what is left lies in a partition that should be gone.
	if n := query(t, url, "SELECT count(*)::text FROM "+name+".event"); n != fmt.Sprint(want) {
		t.Errorf("%s rows are left of %d events", n, want)
	}
	last := event()
	c.advance(1000 * 24 * time.Hour) // no partition was made for that
	if seq := event(); seq <= last || seq < c.now().UnixMicro() {
		t.Errorf("number %d after the clock has jumped to %d", seq, c.now().UnixMicro())
	} else {
		last = seq
	}
	c.advance(-2000 * 24 * time.Hour)
	for range 3 {
		seq := event()
		if seq <= last {
			t.Errorf("number %d after %d, when the clock was put back", seq, last)
		}
		last = seq
	}
}

// What was trimmed, swept or deleted leaves no rows behind.
func TestNothingIsLeft(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	db := open(t, url, dir, postgres.Config{})
	defer db.Close()
	name := schema(t, url, dir)
	host := newHost(t, db.Store())
	for i := range 3 {
		if _, err := host.Create(testContext, didOf(i), repo.Batch{}); err != nil {
			t.Fatal(err)
		}
		batch := post("a", "text")
		batch.KV = append(batch.KV, storage.KVWrite{Key: "key", Value: []byte("value")})
		if _, err := host.Apply(testContext, didOf(i), batch); err != nil {
			t.Fatal(err)
		}
		if err := host.Delete(testContext, didOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Store().KV.Write(testContext, func(tx storage.KVTx) error {
		return tx.Set(testContext, "old", []byte("x"), time.Now().Add(-time.Hour))
	})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, url, "INSERT INTO "+name+".ticket VALUES ('dead', 0, 1, 1, now() - interval '2 days')")
	if err := db.Store().Events.Trim(testContext, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"repo", "record", "blob_ref", "loose", "gone", "account_key", "host_key"} {
		if n := query(t, url, "SELECT count(*)::text FROM "+name+"."+table); n != "0" {
			t.Errorf("%s rows are left in %s", n, table)
		}
	}
	if n := query(t, url, "SELECT count(*)::text FROM "+name+".ticket"); n != "2" {
		t.Errorf("%s tickets, want those of one process", n)
	}
}

// Pages are bounded in bytes, whatever the size of the rows: 60 MB of records and of events are read
// with little memory, and come whole and in order.
func TestLargeRows(t *testing.T) {
	db := open(t, pgtest.URL(t), t.TempDir(), postgres.Config{})
	defer db.Close()
	s := db.Store()
	did := didOf(0)
	head := storage.Head{}
	const rows, size = 60, 500_000
	for i := range rows {
		next := storage.Head{Rev: "3aaaaaaaaaa" + revOf(i)}
		data := make([]byte, size)
		data[0] = byte(i)
		c := &storage.Change{Prev: head, Head: next, Commit: []byte{1},
			Records: []storage.RecordChange{{Path: fmt.Sprintf("com.example.note/%03d", i), CID: cidOf(data), Data: data}},
			Events:  []storage.Event{{DID: did, Kind: "#commit", Time: time.Now(), Payload: data}}}
		if _, err := s.Repos.Apply(testContext, did, c); err != nil {
			t.Fatal(err)
		}
		head = next
	}
	n, most := 0, uint64(0)
	base := heap()
	for e, err := range s.Events.Since(testContext, 0) {
		if err != nil || len(e.Payload) != size || e.Payload[0] != byte(n) {
			t.Fatalf("event %d: %v, %d bytes", n, err, len(e.Payload))
		}
		if n++; n%10 == 0 {
			most = max(most, heap())
		}
	}
	if n != rows {
		t.Errorf("%d events", n)
	}
	err := s.Repos.View(testContext, did, func(r storage.Reader) error {
		n = 0
		for rec, err := range r.Records(testContext, storage.Range{}) {
			if err != nil || len(rec.Data) != size || rec.Data[0] != byte(n) {
				t.Fatalf("record %d: %v, %d bytes", n, err, len(rec.Data))
			}
			if n++; n%10 == 0 {
				most = max(most, heap())
			}
		}
		return nil
	})
	if err != nil || n != rows {
		t.Errorf("%d records, %v", n, err)
	}
	if most > base+12<<20 {
		t.Errorf("%d MB of memory for pages", (most-base)>>20)
	}
}

// A transaction sees what it has written in the middle of a loop over keys, on later pages.
func TestKeysWhileWriting(t *testing.T) {
	db := open(t, pgtest.URL(t), t.TempDir(), postgres.Config{})
	defer db.Close()
	const keys = 300
	write := func(fn func(tx storage.KVTx) error) {
		t.Helper()
		if err := db.Store().KV.Write(testContext, fn); err != nil {
			t.Fatal(err)
		}
	}
	write(func(tx storage.KVTx) error {
		for i := range keys {
			if err := tx.Set(testContext, fmt.Sprintf("%04d", i), []byte("old"), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	seen := 0
	write(func(tx storage.KVTx) error {
		seen = 0
		for p, err := range tx.Keys(testContext, storage.Range{}) {
			if err == nil && seen == 0 { // of a later page
				err = tx.Delete(testContext, fmt.Sprintf("%04d", keys-1))
			}
			if err == nil {
				err = tx.Delete(testContext, p.Key)
			}
			if err != nil {
				return err
			}
			seen++
		}
		return nil
	})
	if seen != keys-1 {
		t.Errorf("%d keys in the loop, want %d", seen, keys-1)
	}
	err := db.Store().KV.Read(testContext, func(r storage.KVReader) error {
		for p := range r.Keys(testContext, storage.Range{}) {
			t.Errorf("key %q is left", p.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
