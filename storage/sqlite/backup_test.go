package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/sqlitevfs"
	"github.com/pdskit/pdskit/storage"
)

// payload is the value that a writer writes in its turn n: a few pages, or a few bytes.
func payload(writer, n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, writer, n))
	return bytes.Repeat(sum[:], 1+n*97%700)
}

// turn is what a writer does in a transaction: a new key, an old one changed, and its counter.
func turn(db *DB, writer, n int) error {
	return db.Store().KV.Write(ctx, func(tx storage.KVTx) error {
		key := func(n int) string { return fmt.Sprintf("w/%d/%06d", writer, n) }
		return errors.Join(
			tx.Set(ctx, key(n), payload(writer, n), time.Time{}),
			tx.Set(ctx, key(n/2), payload(writer, n), time.Time{}),
			tx.Set(ctx, fmt.Sprintf("last/%d", writer), binary.BigEndian.AppendUint64(nil, uint64(n)), time.Time{}))
	})
}

// checkTurns makes sure that a database is the state after some turn of each writer, and returns
// which.
func checkTurns(t *testing.T, path string, writers int) (last []int) {
	t.Helper()
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for w := range writers {
		err := db.Store().KV.Read(ctx, func(r storage.KVReader) error {
			v, err := r.Get(ctx, fmt.Sprintf("last/%d", w))
			if err != nil {
				return err
			}
			n := int(binary.BigEndian.Uint64(v))
			last = append(last, n)
			want := make(map[string]int)
			for i := range n + 1 {
				want[fmt.Sprintf("w/%d/%06d", w, i)] = i
				want[fmt.Sprintf("w/%d/%06d", w, i/2)] = i
			}
			got := 0
			for pair, err := range r.Keys(ctx, storage.Range{From: fmt.Sprintf("w/%d/", w), To: fmt.Sprintf("w/%d0", w)}) {
				if err != nil {
					return err
				}
				i, ok := want[pair.Key]
				if got++; !ok || !bytes.Equal(pair.Value, payload(w, i)) {
					return fmt.Errorf("key %s is not as writer %d left it after turn %d", pair.Key, w, n)
				}
			}
			if got != len(want) {
				return fmt.Errorf("%d keys of writer %d after turn %d, want %d", got, w, n, len(want))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// contents is everything that a file's tables hold, as one digest for each.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	c, err := (&DB{path: path}).connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	all := make(map[string]string)
	var tables []string
	for s := range c.query(&err, "SELECT name FROM sqlite_schema WHERE type = 'table'") {
		tables = append(tables, s.ColumnText(0))
	}
	for _, table := range tables {
		h, rows := sha256.New(), 0
		for s := range c.query(&err, "SELECT * FROM "+sqlite3.QuoteIdentifier(table)+" ORDER BY 1") {
			for i := range s.ColumnCount() {
				value := s.ColumnRawBlob(i)
				fmt.Fprintf(h, "%v %d\n", s.ColumnType(i), len(value))
				h.Write(value)
			}
			rows++
		}
		all[table] = fmt.Sprintf("%d rows %x", rows, h.Sum(nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func bigPages(t *testing.T, path string, least int64) {
	t.Helper()
	if pages, err := sqlitevfs.CheckPages(ctx, path); err != nil || pages < least/4096 {
		t.Fatalf("%d pages of the copy are good, want %d or more: %v", pages, least/4096, err)
	}
}

// A copy of a database that several writers write to at full speed, with a long -wal file, has only
// pages with the right checksum, and the state of one moment.
func TestBackupWhileOthersWrite(t *testing.T) {
	for name, checkpoint := range map[string]int{"all in the -wal file": 1 << 30, "checkpoints under way": 200} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := Open(ctx, filepath.Join(dir, "test.sqlite"), Config{Relaxed: true})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			db.checkpoints.set(checkpoint, 2*checkpoint)
			const writers = 4
			wantTurns, wantBytes := int64(150*writers), int64(6<<20) // some 10 MB
			if testing.Short() {
				wantTurns, wantBytes = wantTurns/3, wantBytes/3
			}
			var running sync.WaitGroup
			var stop atomic.Bool
			var turns [writers]atomic.Int64
			var all atomic.Int64
			grown := make(chan struct{})
			for w := range writers {
				running.Go(func() {
					for n := 0; !stop.Load(); n++ {
						if err := turn(db, w, n); err != nil {
							t.Error(err)
							return
						}
						turns[w].Store(int64(n))
						if all.Add(1) == wantTurns { // whoever of them was faster
							close(grown)
						}
					}
				})
			}
			<-grown
			var least [3][writers]int64
			copied := func(i int) string { return filepath.Join(dir, fmt.Sprint("copy", i)) }
			var failed error
			for i := range least {
				for w := range writers {
					least[i][w] = turns[w].Load()
				}
				failed = errors.Join(failed, db.Backup(ctx, copied(i)))
			}
			stop.Store(true)
			running.Wait()
			if failed != nil {
				t.Fatal(failed)
			}
			for i := range least {
				bigPages(t, copied(i), wantBytes)
				for w, last := range checkTurns(t, copied(i), writers) {
					if int64(last) < least[i][w] {
						t.Errorf("copy %d has turn %d of writer %d, %d had returned before", i, last, w, least[i][w])
					}
				}
			}
			// At rest, but with the same -wal file: the whole state is the same.
			to := filepath.Join(dir, "at rest")
			if err := db.Backup(ctx, to); err != nil {
				t.Fatal(err)
			}
			bigPages(t, to, wantBytes)
			if d := cmp.Diff(contents(t, filepath.Join(dir, "test.sqlite")), contents(t, to)); d != "" {
				t.Error(d)
			}
			checkTurns(t, to, writers)
		})
	}
}

// Pages that the database has freed are copied too, and a second process's -wal file counts.
func TestBackupOfWhatOthersWroteAndDeleted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "test.sqlite")
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	other, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	db.checkpoints.set(1<<30, 1<<30)
	other.checkpoints.set(1<<30, 1<<30)
	for i := range 40 {
		setKey(t, other, fmt.Sprintf("key/%02d", i), strings.Repeat(fmt.Sprint(i), 100_000))
	}
	if err := other.Store().KV.Write(ctx, func(tx storage.KVTx) error {
		var errs []error
		for i := range 35 {
			errs = append(errs, tx.Delete(ctx, fmt.Sprintf("key/%02d", i)))
		}
		return errors.Join(errs...)
	}); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "copy")
	if err := db.Backup(ctx, to); err != nil {
		t.Fatal(err)
	}
	bigPages(t, to, 4<<20)
	if d := cmp.Diff(contents(t, path), contents(t, to)); d != "" {
		t.Error(d)
	}
}

// A database from before there were checksums is copied as it is.
func TestBackupWithoutChecksums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sqlite")
	c, err := sqlite3.Open(sqlitevfs.URI(path))
	if err == nil {
		err = errors.Join(c.Exec("PRAGMA page_size=1024; VACUUM; PRAGMA journal_mode=WAL"), migrate(ctx, &conn{Conn: c, ctx: ctx, stmts: map[string][]*sqlite3.Stmt{}}, versions[:]))
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer c.Close()
	setKey(t, db, "key", strings.Repeat("long", 1_500_000))
	if err := db.Backup(ctx, path+".copy"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(contents(t, path), contents(t, path+".copy")); d != "" {
		t.Error(d)
	}
}

// A copy that is not good is an error, and there is none: whatever is wrong with the database
// itself.
func TestBackupOfADamagedDatabase(t *testing.T) {
	for name, damage := range map[string]func(page []byte){
		"a byte":         func(p []byte) { p[2000] ^= 1 },
		"a checksum":     func(p []byte) { p[4095] ^= 1 },
		"a page of ones": func(p []byte) { copy(p, bytes.Repeat([]byte{0xff}, len(p))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "test.sqlite")
			db, err := Open(ctx, path, Config{})
			if err != nil {
				t.Fatal(err)
			}
			setKey(t, db, "key", strings.Repeat("long", 1_500_000))
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damage(text[800*4096 : 801*4096])
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Verify(ctx, path); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "page 801 of") {
				t.Errorf("verify: %v", err)
			}
			if db, err = Open(ctx, path, Config{}); err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			to := filepath.Join(dir, "copy")
			if err := db.Backup(ctx, to); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

// Verify finds what happens to copies afterwards: cut off, lengthened by half a transaction, of
// another kind.
func TestVerify(t *testing.T) {
	path := fresh(t)
	if err := Verify(ctx, path); err != nil {
		t.Error(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"empty":       func() error { return os.Truncate(path, 0) },
		"a few bytes": func() error { return os.Truncate(path, 50) },
		"cut off":     func() error { return os.Truncate(path, int64(len(good)-4096)) },
		"half a page": func() error { return os.Truncate(path, int64(len(good)-1)) },
		"text":        func() error { return os.WriteFile(path, bytes.Repeat([]byte("text "), 10_000), 0o600) },
		"-wal":        func() error { return os.WriteFile(path+"-wal", good, 0o600) },
		"-journal":    func() error { return os.WriteFile(path+"-journal", good, 0o600) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := Verify(ctx, path); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := errors.Join(removeFile(path), os.WriteFile(path, good, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Verify(ctx, path+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) > 1 { // the folder of blobs
		t.Errorf("left over: %q", left)
	}
}

// A backup that nobody waits for any longer ends, and leaves nothing.
func TestBackupWhoseContextEnds(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(ctx, filepath.Join(dir, "test.sqlite"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	setKey(t, db, "key", strings.Repeat("long", 1_500_000))
	ended, cancel := context.WithCancel(ctx)
	err = db.read(ended, func(c *conn) error {
		cancel()
		return c.copyTo(ended, filepath.Join(dir, "copy"))
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := db.Backup(ended, filepath.Join(dir, "another")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "another*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}
