package blobfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var ctx = context.Background()

const alice, bob = syntax.DID("did:web:alice.example"), syntax.DID("did:web:bob.example")

func open(t testing.TB, dir string, cfg Config) *Store {
	t.Helper()
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stage(t testing.TB, s *Store, did syntax.DID, content string) cid.Cid {
	t.Helper()
	info, err := s.Stage(ctx, did, "text/plain", strings.NewReader(content), storage.BlobLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return info.CID
}

// state is all that the store says of an account's blobs.
func state(t testing.TB, s *Store, did syntax.DID, contents ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	listed := map[cid.Cid]bool{}
	for info, err := range s.List(ctx, did, cid.Undef) {
		if err != nil {
			t.Fatal(err)
		}
		listed[info.CID] = true
	}
	for _, content := range contents {
		c := dag.Sum(dag.Raw, []byte(content))
		_, promoted, err := s.Stat(ctx, did, c)
		if errors.Is(err, storage.ErrNotFound) {
			all[content] = "missing"
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		r, _, err := s.Open(ctx, did, c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != content {
			t.Fatalf("blob %q: read %q, %v", content, got, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		all[content] = map[bool]string{true: "promoted", false: "staged"}[promoted]
		if listed[c] != promoted {
			t.Fatalf("blob %q: listed %v, promoted %v", content, listed[c], promoted)
		}
	}
	return all
}

// files are those of blobs, in whatever state.
func files(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "locks" {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Whatever the DID, all files are in the three folders.
func TestPathTraversal(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "blobs.d")
	s := open(t, dir, Config{})
	dids := []syntax.DID{"", ".", "..", "../../etc", "did:web:a/b", "did:web:a\x00b", "did:web:..%2F..", syntax.DID("did:web:" + strings.Repeat("a", 5000)), "did:web:CON", "did:web:con", `did:web:a\..\b`}
	for _, did := range dids {
		c := stage(t, s, did, "content")
		if err := s.Promote(ctx, did, c); err != nil {
			t.Fatalf("%q: %v", did, err)
		}
	}
	for _, path := range files(t, outer) {
		if rel, err := filepath.Rel(filepath.Join(dir, "blobs"), path); err != nil || strings.HasPrefix(rel, "..") || len(strings.Split(rel, string(filepath.Separator))) != 3 {
			t.Errorf("file %s", path)
		}
	}
	if n := len(files(t, outer)); n != len(dids) {
		t.Errorf("%d files for %d accounts", n, len(dids))
	}
	// CIDs that no blob can have name no file.
	for _, c := range []cid.Cid{cid.Undef, dag.Sum(dag.CBOR, []byte("content")), cid.NewCidV0(dag.Sum(dag.Raw, []byte("content")).Hash())} {
		if _, _, err := s.Stat(ctx, alice, c); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Stat %s: %v", c, err)
		}
		if err := s.Promote(ctx, alice, c); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Promote %s: %v", c, err)
		}
		if err := s.Delete(ctx, alice, c); err != nil {
			t.Errorf("Delete %s: %v", c, err)
		}
	}
}

// go test -run '^$' -bench Quota ./storage/blobfs
//
// What a quota costs: in an account with 10,000 blobs, the first look and every further upload.
func BenchmarkQuota(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Config{})
	if err != nil {
		b.Fatal(err)
	}
	s.syncFile = func(*os.File) error { return nil }
	for i := range 10_000 {
		info, err := s.Stage(ctx, alice, "text/plain", strings.NewReader(fmt.Sprint("blob ", i)), storage.BlobLimits{})
		if err == nil {
			err = s.Promote(ctx, alice, info.CID)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("FirstLook", func(b *testing.B) {
		for b.Loop() {
			clear(s.groups[groupOf(s.account(alice).hash)].used)
			if _, err := s.Usage(ctx, alice); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, quota := range map[string]int64{"Stage/none": 0, "Stage/quota": 1 << 40} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				n++
				if _, err := s.Stage(ctx, alice, "text/plain", strings.NewReader(fmt.Sprint(name, n)), storage.BlobLimits{Quota: quota}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What lies in the folder counts: a store that was opened just now, and one that another process
// writes to meanwhile, agree.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	one, two := open(t, dir, Config{}), open(t, dir, Config{})
	usage := func(want int64) {
		t.Helper()
		for _, s := range []*Store{one, two, open(t, dir, Config{})} {
			if n, err := s.Usage(ctx, alice); n != want || err != nil {
				t.Errorf("%d bytes, error %v; want %d", n, err, want)
			}
		}
	}
	stage(t, one, alice, "four")
	usage(4)
	c := stage(t, two, alice, "sixsix")
	usage(10)
	if err := two.Promote(ctx, alice, c); err != nil {
		t.Fatal(err)
	}
	usage(10)
	// A damaged blob takes room until it is uploaded again.
	file, _, _ := one.account(alice).paths(c)
	if err := os.WriteFile(file, []byte("six"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := open(t, dir, Config{}).Usage(ctx, alice); n != 7 || err != nil {
		t.Errorf("with damage: %d bytes, error %v", n, err)
	}
	if _, err := two.Stage(ctx, alice, "", strings.NewReader("sixsix"), storage.BlobLimits{Quota: 1}); err != nil {
		t.Errorf("repair: %v", err)
	}
	usage(10)
	if err := one.Delete(ctx, alice, c); err != nil {
		t.Fatal(err)
	}
	usage(4)
	// Without its lock, blobs can be deleted, not staged.
	lock := filepath.Join(dir, "locks", fmt.Sprintf("%02d", groupOf(one.account(alice).hash)))
	if err := errors.Join(os.Remove(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Stage(ctx, alice, "", strings.NewReader("more"), storage.BlobLimits{}); err == nil {
		t.Error("a blob was staged without a lock")
	}
	if err := one.DeleteAll(ctx, alice); err != nil {
		t.Errorf("delete without a lock: %v", err)
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	usage(0)
}

func TestKillAtEveryStep(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	var snapshots []string
	parent := t.TempDir()
	snap := func() {
		to := filepath.Join(parent, fmt.Sprint(len(snapshots)))
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		snapshots = append(snapshots, to)
	}
	s.rename = func(from, to string) error {
		snap()
		defer snap()
		return os.Rename(from, to)
	}
	s.syncFile = func(f *os.File) error {
		snap()
		return f.Sync()
	}
	contents, steps := lifeOfBlobs(t, s)
	before := state(t, s, alice, contents...)
	for i, step := range steps {
		snapshots = nil
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		after := state(t, s, alice, contents...)
		if len(snapshots) == 0 {
			t.Fatalf("step %d does nothing", i)
		}
		for j, copied := range snapshots {
			reopened := open(t, copied, Config{TempAge: -time.Hour})
			got := state(t, reopened, alice, contents...)
			if !maps.Equal(got, before) && !maps.Equal(got, after) {
				t.Errorf("step %d, killed at %d: %v, want %v or %v", i, j, got, before, after)
			}
			if left := files(t, filepath.Join(copied, "tmp")); len(left) != 0 {
				t.Errorf("step %d, killed at %d: left under tmp: %v", i, j, left)
			}
			if err := os.RemoveAll(copied); err != nil {
				t.Fatal(err)
			}
		}
		before = after
	}
}

// lifeOfBlobs returns steps in which some blobs come and go, and what these are.
func lifeOfBlobs(t *testing.T, s *Store) (contents []string, steps []func() error) {
	contents = []string{"one", "two", "three"}
	c := func(i int) cid.Cid { return dag.Sum(dag.Raw, []byte(contents[i])) }
	steps = []func() error{
		func() error { stage(t, s, alice, "one"); return nil },
		func() error { stage(t, s, alice, "one"); return nil },
		func() error { stage(t, s, alice, "two"); return nil },
		func() error { return s.Promote(ctx, alice, c(0)) },
		func() error { stage(t, s, alice, "one"); return nil },
		func() error { _, err := s.Collect(ctx, time.Now().Add(time.Hour)); return err },
		func() error { stage(t, s, alice, "three"); return nil },
		func() error { return s.Promote(ctx, alice, c(2)) },
		func() error { return s.Delete(ctx, alice, c(0)) },
		func() error { return s.DeleteAll(ctx, alice) },
	}
	return contents, steps
}

// An error of any system call leaves everything as it was.
func TestFaultAtEveryStep(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO} {
		for fail := 1; ; fail++ {
			s := open(t, t.TempDir(), Config{})
			stage(t, s, alice, "staged")
			if err := s.Promote(ctx, alice, stage(t, s, alice, "promoted")); err != nil {
				t.Fatal(err)
			}
			calls := 0
			fault := func() error {
				if calls++; calls == fail {
					return errno
				}
				return nil
			}
			s.rename = func(from, to string) error {
				if err := fault(); err != nil {
					return err
				}
				return os.Rename(from, to)
			}
			s.syncFile = func(f *os.File) error { return fault() }
			_, err1 := s.Stage(ctx, alice, "", strings.NewReader("new"), storage.BlobLimits{})
			_, err2 := s.Stage(ctx, alice, "", strings.NewReader("promoted"), storage.BlobLimits{})
			err3 := s.Promote(ctx, alice, dag.Sum(dag.Raw, []byte("staged")))
			if calls < fail {
				return
			}
			if err := errors.Join(err1, err2, err3); !errors.Is(err, errno) {
				t.Fatalf("failing call %d: %v", fail, err)
			}
			got := state(t, s, alice, "staged", "promoted", "new")
			if got["promoted"] != "promoted" || got["staged"] == "missing" || err3 == nil && got["staged"] != "promoted" || err1 == nil && got["new"] != "staged" {
				t.Errorf("failing call %d: %v, errors %v, %v, %v", fail, got, err1, err2, err3)
			}
			if left := files(t, filepath.Join(s.dir, "tmp")); len(left) != 0 {
				t.Errorf("failing call %d: left under tmp: %v", fail, left)
			}
			// It recovers.
			s.rename, s.syncFile = os.Rename, (*os.File).Sync
			stage(t, s, alice, "new")
			if err := s.Promote(ctx, alice, dag.Sum(dag.Raw, []byte("staged"))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDirectoriesThatCannotBeSynced(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	s.syncFile = func(f *os.File) error {
		if st, err := f.Stat(); err != nil || st.IsDir() {
			return &fs.PathError{Op: "sync", Path: f.Name(), Err: syscall.EINVAL}
		}
		return f.Sync()
	}
	if err := s.Promote(ctx, alice, stage(t, s, alice, "x")); err != nil {
		t.Fatal(err)
	}
}

// A running upload of another process is left alone; an old one is removed.
func TestOpenCleansTemp(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Config{})
	tmp := filepath.Join(dir, "tmp")
	for _, name := range []string{"upload-old", "upload-new", "collect-old", "deleted-1/x/blob"} {
		path := filepath.Join(tmp, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "old") {
			old := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(t, dir, Config{})
	if diff := cmp.Diff([]string{filepath.Join(tmp, "upload-new")}, files(t, tmp)); diff != "" {
		t.Error(diff)
	}
}

// A file that was cut or changed by the disk is reported, never served; an
// upload of the same blob repairs it.
func TestTornFiles(t *testing.T) {
	const content = "a blob of some length"
	whole := appendTrailer([]byte(content), storage.BlobInfo{Size: int64(len(content)), MIME: "text/plain", Created: time.Now()})
	torn := map[string][]byte{
		"empty":       {},
		"no trailer":  []byte(content),
		"cut":         whole[:len(whole)-1],
		"cut in half": whole[:len(whole)/2],
		"start lost":  whole[5:],
		"longer":      append([]byte("more "), whole...),
		"zeros":       make([]byte, len(whole)),
	}
	for name, b := range torn {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Config{})
			c := stage(t, s, alice, content)
			if err := s.Promote(ctx, alice, c); err != nil {
				t.Fatal(err)
			}
			path := files(t, s.dir)[0]
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Stat(ctx, alice, c); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Stat: %v", err)
			}
			if _, _, err := s.Open(ctx, alice, c); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Open: %v", err)
			}
			for _, err := range s.List(ctx, alice, cid.Undef) {
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Errorf("List: %v", err)
				}
			}
			stage(t, s, alice, content)
			if got := state(t, s, alice, content); got[content] != "promoted" {
				t.Errorf("after repair: %v", got)
			}
		})
	}
}

func TestCollectTornAndForeignFiles(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	c := stage(t, s, alice, "x")
	path := files(t, s.dir)[0]
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(filepath.Dir(path), ".nfs0001")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Collect(ctx, time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := s.Collect(ctx, time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, _, err := s.Stat(ctx, alice, c); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if !exists(foreign) {
		t.Error("a foreign file was deleted")
	}
}

// List pages through the folder with bounded memory.
func TestListPages(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	s.syncFile = func(*os.File) error { return nil }
	var want []cid.Cid
	for i := range 50 {
		c := stage(t, s, alice, fmt.Sprint(i))
		if err := s.Promote(ctx, alice, c); err != nil {
			t.Fatal(err)
		}
		want = append(want, c)
	}
	slices.SortFunc(want, func(a, b cid.Cid) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	for _, size := range []int{1, 2, 7, 25, 49, 50, 51, 100} {
		for after := -1; after < 50; after += 17 {
			var from []byte
			if after >= 0 {
				from = want[after].Bytes()
			}
			var got []cid.Cid
			if err := s.list(ctx, s.account(alice).dir, from, size, func(info storage.BlobInfo, _ error) bool {
				got = append(got, info.CID)
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want[after+1:]) {
				t.Errorf("pages of %d after %d: %d blobs in wrong order or number", size, after, len(got))
			}
		}
	}
}

// Two stores on one directory stand for two processes. Every blob whose Promote
// succeeded is there at the end.
func TestRaceOfStagePromoteCollect(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	done := make(chan struct{})
	var stores []*Store
	for range 2 {
		s := open(t, dir, Config{})
		s.syncFile = func(*os.File) error { return nil }
		stores = append(stores, s)
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Collect(ctx, time.Now().Add(time.Hour)); err != nil {
					t.Errorf("Collect: %v", err)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	kept := map[string]bool{}
	var writers sync.WaitGroup
	for w := range 4 {
		s := stores[w%2]
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 300 {
				content := fmt.Sprint("blob ", rng.IntN(40))
				info, err := s.Stage(ctx, alice, "", strings.NewReader(content), storage.BlobLimits{})
				if err != nil {
					t.Errorf("Stage: %v", err)
					return
				}
				switch err := s.Promote(ctx, alice, info.CID); {
				case err == nil:
					mu.Lock()
					kept[content] = true
					mu.Unlock()
				case !errors.Is(err, storage.ErrNotFound):
					t.Errorf("Promote: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	wg.Wait()
	got := state(t, stores[0], alice, slices.Collect(maps.Keys(kept))...)
	for content := range kept {
		if got[content] != "promoted" {
			t.Errorf("%s: %s", content, got[content])
		}
	}
	if len(kept) == 0 {
		t.Error("nothing was ever promoted")
	}
}

func FuzzParseTrailer(f *testing.F) {
	f.Add(appendTrailer([]byte("content"), storage.BlobInfo{Size: 7, MIME: "text/plain", Created: time.UnixMicro(1)}))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseTrailer(b, int64(len(b)))
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again := appendTrailer(slices.Clone(b[:info.Size]), info); !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded again as %x", b, again)
		}
	})
}

func BenchmarkStage(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir(), Config{})
			data := make([]byte, size)
			b.SetBytes(int64(size))
			for i := range b.N {
				copy(data, fmt.Sprint(i))
				info, err := s.Stage(ctx, alice, "", bytes.NewReader(data), storage.BlobLimits{})
				if err == nil {
					err = s.Promote(ctx, alice, info.CID)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := Open("", Config{}); err == nil {
		t.Error("a store was opened in no directory")
	}
}
