package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
)

// store is a bucket whose requests are counted, and fail as a test wants.
type store struct {
	buckettest.Memory
	mu   sync.Mutex
	n    int            // requests
	puts map[string]int // names that were put, and how often
	// fault is asked before each request. An object that is put is stored up to keep bytes.
	fault func(n int, op, name string) error // setFault sets it while requests are made
	keep  func(name string, content []byte) []byte
}

func (s *store) ask(op, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n++; op == "put" {
		if s.puts == nil {
			s.puts = make(map[string]int)
		}
		s.puts[name]++
	}
	if s.fault != nil {
		return s.fault(s.n, op, name)
	}
	return nil
}

func (s *store) setFault(fault func(n int, op, name string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *store) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	if err := s.ask("put", name); err != nil {
		io.CopyN(io.Discard, body, 10)
		return err
	}
	if s.keep == nil {
		return s.Memory.Put(ctx, name, body, size)
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return s.Memory.Put(ctx, name, bytes.NewReader(s.keep(name, content)), -1)
}

func (s *store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.ask("get", name); err != nil {
		return nil, err
	}
	return s.Memory.Get(ctx, name, offset, length)
}

func (s *store) Delete(ctx context.Context, names ...string) error {
	if err := s.ask("delete", strings.Join(names, " ")); err != nil {
		return err
	}
	return s.Memory.Delete(ctx, names...)
}

func (s *store) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	return func(yield func(bucket.Object, error) bool) {
		if err := s.ask("list", prefix); err != nil {
			yield(bucket.Object{}, err)
			return
		}
		for o, err := range s.Memory.List(ctx, prefix, after) {
			if !yield(o, err) {
				return
			}
		}
	}
}

// names are those of the objects below a prefix.
func (s *store) names(t testing.TB, prefix string) (list []string) {
	t.Helper()
	for o, err := range s.Memory.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, o.Name)
	}
	return list
}

// blobPuts is how often blobs were stored since it was asked last.
func (s *store) blobPuts() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, times := range s.puts {
		if strings.Contains(name, "/blobs-") {
			n += times
		}
	}
	s.puts = nil
	return n
}

// ended is the error of every request of a process that was killed.
type ended struct{}

func (ended) Error() string     { return "the process was killed" }
func (ended) Unavailable() bool { return false }

// outage is an error that passes.
type outage struct{}

func (outage) Error() string     { return "503" }
func (outage) Unavailable() bool { return true }

// encryption is that of an age identity, with what decrypts.
func encryption(t *testing.T) (*backup.Encryption, func(io.Reader) (io.Reader, error)) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return &backup.Encryption{ID: id.Recipient().String(), Writer: func(out io.Writer) (io.WriteCloser, error) { return age.Encrypt(out, id.Recipient()) }},
		func(in io.Reader) (io.Reader, error) { return age.Decrypt(in, id) }
}

// remote makes a backup with everything checked.
func (w *world) remote(t *testing.T, b backup.Backup, s *store) (*backup.Manifest, error) {
	t.Helper()
	var report *check.Report
	b.Layout, b.Files, b.Host = layout, secretFiles, "pds.example.com"
	b.Verify = verifyWith(&report, check.Options{Blobs: check.NoBlobs})
	return b.ToRemote(t.Context(), w.Source, backup.Remote{Bucket: s, Prefix: "my/backups"})
}

// fromRemote restores a generation, the newest one if it has no name, and returns what a check finds.
func fromRemote(t *testing.T, r backup.Restore, s *store, generation string) (report *check.Report, err error) {
	t.Helper()
	r.Layout, r.Verify = layout, verifyRestored(&report)
	dest := filepath.Join(t.TempDir(), "restored")
	_, err = r.FromRemote(t.Context(), backup.Remote{Bucket: s, Prefix: "/my/backups/", Generation: generation}, dest)
	if _, statErr := os.Stat(dest); err != nil && statErr == nil {
		t.Errorf("something is there after %v", err)
	}
	return report, err
}

// generations are those with a manifest, by name.
func (s *store) generations(t *testing.T) (names []string) {
	for _, name := range s.names(t, "my/backups/generations/") {
		if g, ok := strings.CutSuffix(strings.TrimPrefix(name, "my/backups/generations/"), "/backup.json"); ok {
			names = append(names, g)
		}
	}
	return names
}

func TestRemote(t *testing.T) {
	encrypt, decrypt := encryption(t)
	for name, e := range map[string]*backup.Encryption{"plain": nil, "encrypted": encrypt} {
		t.Run(name, func(t *testing.T) {
			s := &store{}
			w := open(t, filepath.Join(t.TempDir(), "data"), options{})
			w.seed(t, 0, 3, seed.Seed{Records: 20, Blobs: 5})
			day := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
			b := backup.Backup{Encryption: e, Keep: backup.Keep{{Count: 2}}, Now: func() time.Time { day = day.Add(24 * time.Hour); return day }}
			restore := backup.Restore{Decrypt: decrypt}
			for i := range 4 {
				m, err := w.remote(t, b, s)
				if err != nil {
					t.Fatal(err)
				}
				if want := 15 + 2*i; m.Blobs != want || m.Lost+m.Missing != 0 || m.Number != i+1 || m.Encrypted != (e != nil) {
					t.Errorf("%+v", m)
				}
				if want := [...]int{15, 2, 2, 2}[i]; s.blobPuts() != want {
					t.Errorf("backup %d: not %d blobs were stored", i, want)
				}
				if got := s.generations(t); len(got) != min(i+1, 2) {
					t.Errorf("generations %v", got)
				}
				if r, err := fromRemote(t, restore, s, ""); err != nil || r.Accounts != 3+i || r.Blobs != 15+2*i || r.Found > 0 {
					t.Errorf("restored: %+v, %v", r, err)
				}
				w.seed(t, 3+i, 4+i, seed.Seed{Records: 5, Blobs: 2})
			}
			// The generation before the last, and none that is not there.
			if r, err := fromRemote(t, restore, s, s.generations(t)[0]); err != nil || r.Accounts != 5 || r.Blobs != 19 {
				t.Errorf("restored: %+v, %v", r, err)
			}
			if _, err := fromRemote(t, restore, s, "20200101T000000Z-abcdefgh"); !errors.Is(err, backup.ErrBadBackup) {
				t.Error(err)
			}
			// What a deleted account had goes with the last generation that has it.
			if err := w.accounts.Delete(t.Context(), account.Trusted(w.dids[0])); err != nil {
				t.Fatal(err)
			}
			for i, want := range []int{23, 18} {
				if _, err := w.remote(t, b, s); err != nil {
					t.Fatal(err)
				}
				if got := len(s.names(t, "my/backups/blobs-")); got != want {
					t.Errorf("after backup %d there are %d blobs, not %d", i, got, want)
				}
			}
			for _, other := range []string{"my/backups/lock/", "my/backups/unfinished/"} {
				if left := s.names(t, other); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			}
			clear := 0
			for _, name := range s.names(t, "") {
				in, err := s.Memory.Get(t.Context(), name, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				if text, _ := io.ReadAll(in); !bytes.HasPrefix(text, []byte("age-encryption.org/v1\n")) {
					clear++
				}
			}
			if want := 2 * 2; e != nil && clear != want { // manifests and lists
				t.Errorf("%d objects are not encrypted", clear)
			}
			if e != nil {
				if _, err := fromRemote(t, backup.Restore{}, s, ""); !errors.Is(err, backup.ErrBadBackup) {
					t.Errorf("without a key: %v", err)
				}
			}
		})
	}
}

// Other recipients cannot read what the ones before could: all blobs are stored again.
func TestRemoteOtherRecipient(t *testing.T) {
	one, decryptOne := encryption(t)
	two, decryptTwo := encryption(t)
	s := &store{}
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 2, Blobs: 3})
	for _, b := range []backup.Backup{{}, {Encryption: one}, {Encryption: two}} {
		b.Keep = backup.Keep{{Count: 2}}
		if _, err := w.remote(t, b, s); err != nil {
			t.Fatal(err)
		}
		if n := s.blobPuts(); n != 6 {
			t.Errorf("%d blobs were stored", n)
		}
	}
	both := s.generations(t)
	for _, g := range both {
		_, errOne := fromRemote(t, backup.Restore{Decrypt: decryptOne}, s, g)
		_, errTwo := fromRemote(t, backup.Restore{Decrypt: decryptTwo}, s, g)
		if (errOne == nil) == (errTwo == nil) {
			t.Errorf("%s: %v, %v", g, errOne, errTwo)
		}
	}
	if n := len(s.names(t, "my/backups/blobs-plain/")); n > 0 {
		t.Errorf("%d blobs lie in the clear", n)
	}
}

// killedAt lets a process end at its n-th request.
func (s *store) killedAt(n int) {
	s.n = 0
	s.fault = func(now int, _, _ string) error {
		if now >= n {
			return ended{}
		}
		return nil
	}
}

// A backup that is killed at any of its requests leaves the one before it, and the next one goes on.
func TestRemoteKilledAnywhere(t *testing.T) {
	encrypt, decrypt := encryption(t)
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Records: 2, Blobs: 2})
	s, b := &store{}, backup.Backup{Encryption: encrypt}
	if _, err := w.remote(t, b, s); err != nil {
		t.Fatal(err)
	}
	accounts, failures := 1, 0
	step := 3
	if os.Getenv("PDSKIT_LONG") != "" {
		step = 1
	}
	for at := 1; ; at += step {
		w.seed(t, accounts, accounts+1, seed.Seed{Records: 1, Blobs: 1})
		accounts++
		s.killedAt(at)
		_, err := w.remote(t, b, s)
		s.fault = nil
		if err == nil {
			break
		}
		failures++
		r, restoreErr := fromRemote(t, backup.Restore{Decrypt: decrypt}, s, "")
		if restoreErr != nil || r.Found > 0 || r.Accounts != accounts && r.Accounts != accounts-1 {
			t.Fatalf("killed at request %d (%v): %+v, %v", at, err, r, restoreErr)
		}
		s.blobPuts()
		if _, err := w.remote(t, b, s); err != nil {
			t.Fatalf("after it was killed at request %d: %v", at, err)
		}
		if n := s.blobPuts(); n > 1 {
			t.Errorf("killed at request %d: %d blobs were stored again", at, n)
		}
		if r, err := fromRemote(t, backup.Restore{Decrypt: decrypt}, s, ""); err != nil || r.Found > 0 || r.Accounts != accounts || r.Blobs != accounts+1 {
			t.Fatalf("after it was killed at request %d: %+v, %v", at, r, err)
		}
		if got := s.names(t, "my/backups/"); len(got) != 4+accounts+1 {
			t.Errorf("killed at request %d: left %q", at, got)
		}
	}
	if failures < 25/step {
		t.Errorf("only %d requests", failures)
	}
}

// What was stored by a backup that did not end is known to the next one, but for the last blobs.
func TestRemoteGoesOn(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 4, seed.Seed{Blobs: 150})
	s := &store{}
	puts := 0
	s.fault = func(_ int, op, name string) error {
		if strings.Contains(name, "/blobs-") && op == "put" {
			puts++
		}
		if puts > 500 {
			return ended{} // from here on nothing is noted either
		}
		return nil
	}
	if _, err := w.remote(t, backup.Backup{}, s); !errors.As(err, &ended{}) {
		t.Fatal(err)
	}
	s.fault = nil
	s.blobPuts()
	m, err := w.remote(t, backup.Backup{}, s)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.blobPuts(); m.Blobs != 600 || n > 600-256 || n < 100 {
		t.Errorf("of %d blobs, %d were stored the second time", m.Blobs, n)
	}
}

// A store that fails now and then, or for a minute, only takes longer.
func TestRemoteOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newMemory(t)
		s := &store{}
		begun := time.Now()
		tries := map[string]int{}
		for name, fault := range map[string]func(n int, op, name string) error{
			// Of the requests for one object, or for a lock, whose name has the time in it: what always
			// happened to be the third of all would fail.
			"every third": func(_ int, op, name string) error {
				if strings.HasPrefix(name, "lock/") {
					name = "lock/"
				}
				tries[op+name]++
				if tries[op+name]%3 == 1 {
					return outage{}
				}
				return nil
			},
			"a minute": func(int, string, string) error {
				if time.Since(begun) < time.Minute {
					return outage{}
				}
				return nil
			},
		} {
			begun = time.Now()
			s.fault = fault
			b := backup.Backup{Layout: layout, Files: secretFiles}
			if _, err := b.ToRemote(t.Context(), g, backup.Remote{Bucket: s}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(begun); d > 30*time.Minute {
				t.Errorf("%s: it took %s", name, d)
			}
			dest := filepath.Join(t.TempDir(), "restored")
			if _, err := (backup.Restore{Layout: layout}).FromRemote(t.Context(), backup.Remote{Bucket: s}, dest); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		// One that stays away fails.
		s.fault = func(_ int, op, _ string) error {
			if op == "get" {
				return outage{}
			}
			return nil
		}
		_, err := backup.Backup{Layout: layout}.ToRemote(t.Context(), g, backup.Remote{Bucket: s})
		if !errors.Is(err, outage{}) {
			t.Error(err)
		}
	})
}

// A store that keeps half of an object, or loses one, is found out before the backup counts.
func TestRemoteTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, part := range []string{"pds.sqlite", "secrets.json", "backup.json"} {
			for _, fast := range []bool{false, true} {
				g, s, bad := newMemory(t), &store{}, 1
				s.keep = func(name string, content []byte) []byte {
					if strings.HasSuffix(name, part) && bad > 0 {
						bad--
						return content[:len(content)/2]
					}
					return content
				}
				to := backup.Remote{Bucket: s}
				b := backup.Backup{Layout: layout, Files: secretFiles, Fast: fast}
				if _, err := b.ToRemote(t.Context(), g, to); err != nil && (!fast || !errors.Is(err, backup.ErrGone)) {
					t.Errorf("%s, once, fast %v: %v", part, fast, err)
				}
				bad = 1000
				before := s.Len()
				if _, err := b.ToRemote(t.Context(), g, to); !errors.Is(err, backup.ErrGone) {
					t.Errorf("%s, always, fast %v: %v (%d objects before)", part, fast, err, before)
				}
			}
		}
	})
}

// A store that keeps other bytes, as many as there were, is found out when they are read again.
func TestRemoteAltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, part := range []string{"pds.sqlite", "secrets.json", "backup.json"} {
			g, s, bad := newMemory(t), &store{}, 1
			s.keep = func(name string, content []byte) []byte {
				if strings.HasSuffix(name, part) && bad > 0 {
					bad--
					content[len(content)/2] ^= 1
				}
				return content
			}
			to := backup.Remote{Bucket: s}
			b := backup.Backup{Layout: layout, Files: secretFiles}
			if _, err := b.ToRemote(t.Context(), g, to); err != nil {
				t.Errorf("%s, once: %v", part, err)
			}
			if _, err := (backup.Restore{Layout: layout}).FromRemote(t.Context(), to, filepath.Join(t.TempDir(), "restored")); err != nil {
				t.Errorf("%s, once: %v", part, err)
			}
			bad = 1000
			if _, err := b.ToRemote(t.Context(), g, to); !errors.Is(err, backup.ErrGone) {
				t.Errorf("%s, always: %v", part, err)
			}
		}
	})
}

// An object that the store loses later is stored again, and its generation is not restored without
// it unless that is asked for.
func TestRemoteLostObjects(t *testing.T) {
	s := &store{}
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 2, Blobs: 3})
	if _, err := w.remote(t, backup.Backup{}, s); err != nil {
		t.Fatal(err)
	}
	whole := map[string][]byte{}
	for _, name := range s.names(t, "") {
		in, err := s.Memory.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		whole[name], _ = io.ReadAll(in)
	}
	for _, cut := range []bool{false, true} {
		for name, content := range whole {
			err := s.Memory.Delete(t.Context(), name)
			if cut {
				err = s.Memory.Put(t.Context(), name, bytes.NewReader(content[:len(content)/2]), -1)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fromRemote(t, backup.Restore{}, s, ""); !errors.Is(err, backup.ErrBadBackup) {
				t.Errorf("without %s (cut %v): %v", name, cut, err)
			}
			blob := strings.Contains(name, "/blobs-plain/")
			dest := filepath.Join(t.TempDir(), "incomplete")
			_, err = backup.Restore{Layout: layout, Incomplete: true}.FromRemote(t.Context(), backup.Remote{Bucket: s, Prefix: "my/backups"}, dest)
			if (err == nil) != blob {
				t.Errorf("without %s (cut %v), incomplete: %v", name, cut, err)
			}
			if blob { // the next backup mends it
				if _, err := w.remote(t, backup.Backup{Fast: true, Keep: backup.Keep{{Count: 2}}}, s); err != nil {
					t.Fatal(err)
				}
				if n := s.blobPuts(); n != 1 && n != 7 {
					t.Errorf("%d blobs were stored", n)
				}
				for _, g := range s.generations(t) {
					if r, err := fromRemote(t, backup.Restore{}, s, g); err != nil || r.Blobs != 6 {
						t.Errorf("%s: %+v, %v", g, r, err)
					}
				}
			}
			for _, now := range s.names(t, "") {
				if err := s.Memory.Delete(t.Context(), now); err != nil {
					t.Fatal(err)
				}
			}
			for name, content := range whole {
				if err := s.Memory.Put(t.Context(), name, bytes.NewReader(content), -1); err != nil {
					t.Fatal(err)
				}
			}
			s.blobPuts()
		}
	}
	if d := cmp.Diff(len(whole), s.Len()); d != "" {
		t.Error(d)
	}
}

// Something else in the bucket is not taken for a backup, and nothing is removed.
func TestRemoteOfSomethingElse(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	s := &store{}
	if err := s.Memory.Put(t.Context(), "my/backups/holiday.jpg", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := w.remote(t, backup.Backup{}, s); !errors.Is(err, backup.ErrNotBackup) {
		t.Error(err)
	}
	for _, prefix := range []string{"a//b", "a b", "ä", strings.Repeat("a", 201), "a?"} {
		if _, err := (backup.Backup{}).ToRemote(t.Context(), w.Source, backup.Remote{Bucket: s, Prefix: prefix}); err == nil {
			t.Errorf("prefix %q", prefix)
		}
	}
	if s.Len() != 1 {
		t.Error(s.names(t, ""))
	}
	// A backup of a later state is not followed by one of an earlier state.
	other := open(t, filepath.Join(t.TempDir(), "data"), options{})
	other.seed(t, 0, 1, seed.Seed{Records: 3})
	s = &store{}
	if _, err := other.remote(t, backup.Backup{}, s); err != nil {
		t.Fatal(err)
	}
	if _, err := w.remote(t, backup.Backup{}, s); !errors.Is(err, backup.ErrOlder) {
		t.Error(err)
	}
}
