package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// A snapshot that nobody closes ends at its limit: calls fail, the connections come back, and the
// -wal file, which it has kept growing, starts anew.
func TestSnapshotEndsAtItsLimit(t *testing.T) {
	db, err := Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), Config{SnapshotTime: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	setKey(t, db, "k", "1")
	snap, err := db.Store().Repos.(storage.Snapshotter).Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		return snap.Store().KV.Read(ctx, func(r storage.KVReader) error {
			_, err := r.Get(ctx, "k")
			return err
		})
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = read(); err != nil {
			break
		}
	}
	if !errors.Is(err, storage.ErrExpired) || time.Now().Before(snap.Until()) {
		t.Errorf("%v before the limit: %v", time.Until(snap.Until()), err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	db.mu.Lock()
	open, idle := len(db.snapshots), len(db.idle)
	db.mu.Unlock()
	if open != 0 || idle < snapshotReaders {
		t.Errorf("%d snapshots are open, %d connections idle", open, idle)
	}
}

// Four snapshots may be open; a database that is closed ends them.
func TestSnapshotsAreBounded(t *testing.T) {
	db, err := Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	from := db.Store().Repos.(storage.Snapshotter)
	var last storage.Snapshot
	for range maxSnapshots {
		if last, err = from.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := from.Snapshot(ctx); !errors.Is(err, storage.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	if err := last.Close(); err != nil {
		t.Error(err)
	}
	if last, err = from.Snapshot(ctx); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := last.Store().Events.Bounds(ctx); !errors.Is(err, storage.ErrExpired) {
		t.Errorf("a snapshot of a closed database: %v", err)
	}
	if err := last.Close(); err != nil {
		t.Error(err)
	}
	if _, err := from.Snapshot(ctx); err == nil {
		t.Error("a snapshot of a closed database was taken")
	}
}

// The -wal file starts anew when the snapshot has ended that kept it.
func TestWALAfterASnapshot(t *testing.T) {
	db := openReplace(t, filepath.Join(t.TempDir(), "test.sqlite"), nil)
	db.checkpoints.set(10, 20)
	snap, err := db.Store().Repos.(storage.Snapshotter).Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pages := func() (n int) {
		_ = db.writer.do(ctx, step{exclusive: true, fn: func(*conn) error { n = db.checkpoints.wal; return nil }})
		return n
	}
	write := func(n int) {
		for range n {
			setKey(t, db, "k", string(make([]byte, 20_000)))
		}
	}
	write(40)
	grown := pages()
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 0; pages() >= grown; i++ {
		if i == 200 {
			t.Fatalf("the -wal file had %d pages, and has %d", grown, pages())
		}
		write(5)
	}
}
