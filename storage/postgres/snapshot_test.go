//go:build unix

package postgres_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
)

// A snapshot keeps the partitions that Trim would drop, and ends at its limit, by itself or when the
// server ends its transaction. A quarter of the readers may be snapshots.
func TestSnapshotLimits(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	var hours atomic.Int64
	db := open(t, url, dir, postgres.Config{Readers: 4, Now: func() time.Time { return time.Now().Add(time.Duration(hours.Load()) * time.Hour) }})
	s := db.Store()
	event := storage.Change{Events: []storage.Event{{DID: didOf(1), Kind: "#identity"}}}
	write := func() {
		t.Helper()
		if _, err := s.Repos.Apply(testContext, didOf(1), &event); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		write()
		hours.Add(13) // the next partition but one
	}
	from := s.Repos.(storage.Snapshotter)
	snap, err := from.Snapshot(testContext)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.Snapshot(testContext); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("one more snapshot: %v", err)
	}
	write()
	if err := s.Events.Trim(testContext, time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if n := len(replay(t, snap.Store())); n != 4 {
		t.Errorf("after Trim, the snapshot has %d events", n)
	}
	if n := len(replay(t, s)); n != 0 {
		t.Errorf("after Trim, there are %d events", n)
	}
	exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%pg_export_snapshot%'")
	_, err = snap.Store().Repos.Head(testContext, didOf(2))
	for end := time.Now().Add(20 * time.Second); !errors.Is(err, storage.ErrExpired) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, err = snap.Store().Repos.Head(testContext, didOf(2))
	}
	if !errors.Is(err, storage.ErrExpired) {
		t.Errorf("a snapshot whose transaction was ended: %v", err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	short := open(t, url, dir, postgres.Config{SnapshotTime: 50 * time.Millisecond}).Store()
	if snap, err = short.Repos.(storage.Snapshotter).Snapshot(testContext); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, _, err = snap.Store().Events.Bounds(testContext); err != nil {
			break
		}
	}
	if !errors.Is(err, storage.ErrExpired) || time.Now().Before(snap.Until()) {
		t.Errorf("%v before the limit: %v", time.Until(snap.Until()), err)
	}
}
