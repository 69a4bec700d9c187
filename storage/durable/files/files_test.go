package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
)

var ctx = context.Background()

const alice, bob = changes.Alice, changes.Bob

func openDB(t testing.TB, dir string, cfg durable.Config) *DB {
	t.Helper()
	db, err := Open(ctx, dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closeDB(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// objectFiles are the names of the files of objects, without their folders.
func objectFiles(t testing.TB, dir string) (list []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "objects", "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		list = append(list, filepath.Base(p))
	}
	return list
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir, durable.Config{})
	if _, err := Open(ctx, dir, durable.Config{}); !errors.Is(err, ErrInUse) {
		t.Errorf("second Open: %v", err)
	}
	changes.Apply(t, db.Store(), alice, 1)
	closeDB(t, db)
	db = openDB(t, dir, durable.Config{})
	changes.WantHead(t, db.Store(), alice, 1)
	closeDB(t, db)
}

func TestPathTraversal(t *testing.T) {
	outer := t.TempDir()
	db := openDB(t, filepath.Join(outer, "data"), durable.Config{})
	dids := []syntax.DID{"..", "../../x", "did:web:a/b", "did:web:a\x00b", syntax.DID("did:web:" + strings.Repeat("a", 2000)), "did:web:con", `did:web:..\x`}
	for _, did := range dids {
		changes.Apply(t, db.Store(), did, 1)
		changes.WantHead(t, db.Store(), did, 1)
	}
	closeDB(t, db)
	if list, err := os.ReadDir(outer); err != nil || len(list) != 1 {
		t.Errorf("%d files outside of the directory, %v", len(list)-1, err)
	}
	n := 0
	for _, name := range objectFiles(t, filepath.Join(outer, "data")) {
		if strings.HasSuffix(name, ".sqlite") {
			n++
		}
	}
	if n != len(dids) {
		t.Errorf("%d objects of %d accounts", n, len(dids))
	}
}

// Nothing is left of a deleted account, nor of what a dead process had begun.
func TestNoFilesAreLeft(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir, durable.Config{})
	changes.Apply(t, db.Store(), alice, 1)
	if n := len(objectFiles(t, dir)); n == 0 {
		t.Error("the object has no file")
	}
	if _, err := db.Store().Repos.Delete(ctx, alice, nil); err != nil {
		t.Fatal(err)
	}
	if list := objectFiles(t, dir); len(list) != 0 {
		t.Errorf("files of a deleted account: %v", list)
	}
	changes.Apply(t, db.Store(), alice, 1)
	changes.WantHead(t, db.Store(), alice, 1)
	closeDB(t, db)
	if err := os.WriteFile(filepath.Join(dir, "objects", "new-123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, dir, durable.Config{})
	if left, _ := filepath.Glob(filepath.Join(dir, "objects", "new-*")); len(left) != 0 {
		t.Errorf("left by a dead process: %v", left)
	}
	closeDB(t, db)
}

// Accounts that are not in use are files and nothing else.
func TestIdleAccountsTakeNoMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 400 accounts")
	}
	db := openDB(t, t.TempDir(), durable.Config{MaxOpen: 2})
	made := 0
	heap := func(accounts int) uint64 {
		for ; made < accounts; made++ {
			changes.Apply(t, db.Store(), syntax.DID(fmt.Sprintf("did:web:account%d.example", made)), 1)
		}
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const few, many = 50, 400
	before := heap(few)
	after := heap(many)
	// An open object takes some 300 KiB.
	if grown := int64(after) - int64(before); grown > (many-few)*500 {
		t.Errorf("%d more accounts take %d bytes of memory", many-few, grown)
	}
	if st := db.Stats(); st.Open > 2 {
		t.Errorf("%d objects are open", st.Open)
	}
	closeDB(t, db)
}

// A -wal file without its database is of an object that is gone.
func TestStaleWAL(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir, durable.Config{})
	changes.Apply(t, db.Store(), alice, 1)
	closeDB(t, db)
	files, err := OpenObjects(filepath.Join(dir, "objects"))
	if err != nil {
		t.Fatal(err)
	}
	path := files.path(alice)
	if _, err := os.Stat(path + "-wal"); err != nil {
		t.Fatalf("the test expects a -wal file: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	o, err := files.Open(ctx, alice, true)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := o.Get("\x00s"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a new object has a state: %x, %v", v, err)
	}
	if err := errors.Join(o.Close(), files.Close()); err != nil {
		t.Fatal(err)
	}
}

// A process that dies while it removes the files of an account that was deleted leaves nothing of
// which the account comes back: its database without the -wal file is one of before.
func TestDeathWhileRemoving(t *testing.T) {
	made := t.TempDir()
	db := openDB(t, made, durable.Config{})
	for n := 1; n < 40; n++ { // until the -wal file was moved to the database
		changes.Apply(t, db.Store(), alice, n)
	}
	closeDB(t, db)
	for calls := range 7 {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
		db := openDB(t, dir, durable.Config{})
		left := calls
		db.objects.fault = func() error {
			if left--; left < 0 {
				return errors.New("the process is dead")
			}
			return nil
		}
		_, failed := db.Store().Repos.Delete(ctx, alice, nil)
		_ = db.Close()
		db = openDB(t, dir, durable.Config{})
		_, before, err := db.Store().Events.Bounds(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if head, err := db.Store().Repos.Head(ctx, alice); failed == nil && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("after %d calls: the account is back: %v, %v", calls, head, err)
		}
		if _, after, err := db.Store().Events.Bounds(ctx); failed == nil && (err != nil || after != before) {
			t.Errorf("after %d calls: events of the account were delivered: %v", calls, err)
		}
		closeDB(t, db)
	}
}

// A broken file breaks its account and no other.
func TestBrokenFile(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"cut":   func(path string) error { return os.Truncate(path, 5000) },
		"no SQLite": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openDB(t, dir, durable.Config{})
			changes.Apply(t, db.Store(), alice, 1)
			changes.Apply(t, db.Store(), bob, 1)
			for n := 2; n < 40; n++ { // until the -wal file was moved to the database
				changes.Apply(t, db.Store(), alice, n)
			}
			path := db.objects.path(alice)
			closeDB(t, db)
			if err := errors.Join(os.Remove(path+"-wal"), spoil(path)); err != nil {
				t.Fatal(err)
			}
			db = openDB(t, dir, durable.Config{})
			for range 2 {
				if _, err := db.Store().Repos.Head(ctx, alice); !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("Head: %v", err)
				}
				if _, err := db.Store().Repos.Apply(ctx, alice, changes.Nth(alice, 2)); !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("Apply: %v", err)
				}
			}
			changes.WantHead(t, db.Store(), bob, 1)
			changes.Apply(t, db.Store(), bob, 2)
			closeDB(t, db)
		})
	}
}

// When there is no more room, steps fail and leave everything as it was; they go
// on when there is.
func TestFull(t *testing.T) {
	db := openDB(t, t.TempDir(), durable.Config{})
	var object *sqlObject // of alice
	db.objects.opened = func(o *sqlObject) { object = o }
	changes.Apply(t, db.Store(), alice, 1)
	limit := func(pages int) {
		t.Helper()
		if err := object.conn.Exec(fmt.Sprintf("PRAGMA object.max_page_count=%d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(8)
	n := 2
	for ; ; n++ {
		c := changes.Nth(alice, n)
		c.KV = []storage.KVWrite{{Key: fmt.Sprint(n), Value: make([]byte, 5000)}}
		if _, err := db.Store().Repos.Apply(ctx, alice, c); err != nil {
			break
		}
		if n > 20 {
			t.Fatal("the disk is never full")
		}
	}
	changes.WantHead(t, db.Store(), alice, n-1)
	changes.WantEvents(t, db.Store(), alice, n-1)
	limit(1 << 20)
	changes.Apply(t, db.Store(), alice, n)
	changes.WantHead(t, db.Store(), alice, n)
	changes.WantEvents(t, db.Store(), alice, n)
	closeDB(t, db)
}

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	open := func() *Objects {
		t.Helper()
		f, err := OpenObjects(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	check := func(f *Objects, want ...syntax.DID) {
		t.Helper()
		got := f.Marked()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("marked %v, want %v", got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f := open()
	check(f)
	for _, did := range []syntax.DID{alice, bob, alice, "did:web:c"} {
		must(f.Mark(did))
	}
	must(f.Unmark(bob))
	must(f.Unmark("did:web:nobody"))
	check(f, alice, "did:web:c")
	must(f.Close())
	f = open()
	check(f, alice, "did:web:c")
	must(f.Mark("did:web:short")) // in the place of a longer one
	must(f.Unmark(alice))
	must(f.Close())
	f = open()
	check(f, "did:web:c", "did:web:short")
	for i := range 10 {
		must(f.Mark(syntax.DID(fmt.Sprint("did:web:", i))))
		must(f.Unmark(syntax.DID(fmt.Sprint("did:web:", i))))
	}
	must(f.Close())
	st, err := os.Stat(filepath.Join(dir, "marks"))
	if err != nil || st.Size() > 4*placeSize {
		t.Errorf("the file of marks has grown to %d bytes, %v", st.Size(), err)
	}
	// Whatever is in the file, it can be read.
	for _, content := range []string{"\x00", "\xff\xff", "\x00\x05did", strings.Repeat("\xff", 3*placeSize)} {
		must(os.WriteFile(filepath.Join(dir, "marks"), []byte(content), 0o600))
		must(open().Close())
	}
}
