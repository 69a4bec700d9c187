package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
)

// blobFiles are the files of promoted blobs below a folder, by name, in order.
func blobFiles(t *testing.T, folder string) (names []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "blobs", "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// backup makes a backup with everything checked.
func (w *world) backup(t *testing.T, b backup.Backup, dest string) *backup.Manifest {
	t.Helper()
	var report *check.Report
	if b.Files = secretFiles; b.Verify == nil {
		b.Verify = verifyWith(&report, check.Options{Blobs: check.NoBlobs})
	}
	m, err := b.ToDir(t.Context(), w.Source, dest)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// restored restores a backup and returns what a check of everything finds.
func restored(t *testing.T, from string) (report *check.Report) {
	t.Helper()
	if _, err := (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), from, nil, filepath.Join(t.TempDir(), "restored")); err != nil {
		t.Fatal(err)
	}
	return report
}

// Blobs that the server loses after a backup are in all later ones, which say so; once no record
// refers to them they go.
func TestLostBlobsStayInTheBackup(t *testing.T) {
	for name, lose := range map[string]struct {
		n  int // how many are lost, of six
		do func(t *testing.T, folder string, files []string) error
	}{
		"one file":         {1, func(_ *testing.T, _ string, files []string) error { return os.Remove(files[0]) }},
		"an account's":     {3, func(_ *testing.T, _ string, files []string) error { return os.RemoveAll(filepath.Dir(files[0])) }},
		"the whole folder": {6, func(_ *testing.T, folder string, _ []string) error { return os.RemoveAll(folder) }},
		"an empty folder": {6, func(_ *testing.T, folder string, _ []string) error {
			return errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700))
		}},
		"cut off to nothing": {1, func(_ *testing.T, _ string, files []string) error { return os.Truncate(files[0], 0) }},
		"cut off":            {1, func(_ *testing.T, _ string, files []string) error { return os.Truncate(files[0], 10) }},
		"another byte, and another time of upload": {1, func(t *testing.T, _ string, files []string) error {
			text, err := os.ReadFile(files[0])
			if err != nil {
				return err
			}
			other, err := os.ReadFile(files[1])
			if err != nil {
				return err
			}
			// The end of one file and the bytes of another: a good trailer, and not that of the
			// copy.
			trailer := bytes.LastIndex(other, []byte("text/plain"))
			if trailer != bytes.LastIndex(text, []byte("text/plain")) {
				t.Fatal("blobs of other lengths")
			}
			text = append(text[:trailer], other[trailer:]...)
			text[0] ^= 1
			return os.WriteFile(files[0], text, 0o600)
		}},
		"another file in its place": {2, func(_ *testing.T, _ string, files []string) error {
			return errors.Join(os.Rename(files[1], files[0]))
		}},
		"a folder in its place": {1, func(_ *testing.T, _ string, files []string) error {
			return errors.Join(os.Remove(files[0]), os.Mkdir(files[0], 0o700))
		}},
	} {
		for _, fast := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dest := filepath.Join(t.TempDir(), "backup")
				w := open(t, filepath.Join(t.TempDir(), "data"), options{})
				w.seed(t, 0, 2, seed.Seed{Records: 5, Blobs: 3})
				if m := w.backup(t, backup.Backup{Layout: layout}, dest); m.Lost != 0 || m.Missing != 0 || m.Blobs != 6 {
					t.Fatalf("%+v", m)
				}
				before := files(t, filepath.Join(dest, nameBlobs))
				if err := lose.do(t, w.Blobs, blobFiles(t, w.Blobs)); err != nil {
					t.Fatal(err)
				}
				for range 2 { // also the one after that
					m := w.backup(t, backup.Backup{Layout: layout, Fast: fast}, dest)
					if m.Lost != lose.n || m.Missing != 0 || m.Blobs != 6 || len(m.LostBlobs) != lose.n || !m.LostBlobs[0].Kept {
						t.Fatalf("%+v", m)
					}
				}
				if d := cmp.Diff(before, files(t, filepath.Join(dest, nameBlobs))); d != "" {
					t.Error(d)
				}
				if r := restored(t, dest); r.Blobs != 6 || r.MissingBlobs != 0 || r.Found != 0 {
					t.Errorf("%+v", r)
				}
				acct, err := w.accounts.ByDID(t.Context(), m0(t, w, dest))
				if err == nil {
					err = os.MkdirAll(filepath.Join(w.Blobs, "staged"), 0o700)
				}
				if err == nil {
					err = os.MkdirAll(filepath.Join(w.Blobs, "tmp"), 0o700)
				}
				if err == nil {
					err = w.accounts.Delete(t.Context(), account.Trusted(acct.DID))
				}
				if err != nil {
					t.Fatal(err)
				}
				if m := w.backup(t, backup.Backup{Layout: layout}, dest); m.Blobs != 3 || len(blobFiles(t, filepath.Join(dest, nameBlobs))) != 3 {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}

// Damage in the middle of a server's blob is told although the backup has a good copy: else nobody
// hears of it until the copy is needed. With Fast only ends are looked at.
func TestDamagedBlobOfTheServerIsTold(t *testing.T) {
	for _, at := range []int{0, 1, 7} {
		dest := filepath.Join(t.TempDir(), "backup")
		w := open(t, filepath.Join(t.TempDir(), "data"), options{})
		w.seed(t, 0, 2, seed.Seed{Records: 5, Blobs: 3})
		w.backup(t, backup.Backup{Layout: layout}, dest)
		before := files(t, filepath.Join(dest, nameBlobs))
		name := blobFiles(t, w.Blobs)[1]
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[at] ^= 0x40
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if m := w.backup(t, backup.Backup{Layout: layout, Fast: true}, dest); m.Lost != 0 {
			t.Errorf("%+v", m)
		}
		if m := w.backup(t, backup.Backup{Layout: layout}, dest); m.Lost != 1 || m.Missing != 0 || m.Blobs != 6 || !m.LostBlobs[0].Kept {
			t.Errorf("%+v", m)
		}
		if d := cmp.Diff(before, files(t, filepath.Join(dest, nameBlobs))); d != "" {
			t.Error(d)
		}
	}
}

// A backup that is made while records are being imported has the account as it was before, and so
// has a server that was killed then.
func TestBackupDuringAnImport(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 20, Blobs: 2})
	did := w.dids[0]
	before, err := w.host.Head(t.Context(), did)
	if err != nil {
		t.Fatal(err)
	}
	gaveUp := errors.New("the import is given up")
	_, err = w.Store.Repos.Replace(t.Context(), did, func(yield func(storage.RecordChange, error) bool) {
		for i := range 5000 {
			block := dag.Sum(dag.CBOR, fmt.Append(nil, i))
			if !yield(storage.RecordChange{Path: fmt.Sprintf("com.example.note/%05d", i), CID: block, Data: make([]byte, 1000)}, nil) {
				return
			}
		}
		if m := w.backup(t, backup.Backup{Layout: layout}, dest); m.Lost != 0 || m.Missing != 0 {
			t.Errorf("%+v", m)
		}
		yield(storage.RecordChange{}, gaveUp)
	}, nil)
	if !errors.Is(err, gaveUp) {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "restored")
	var report *check.Report
	if _, err := (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), dest, nil, to); err != nil {
		t.Fatal(err)
	}
	if report.Accounts != 2 || report.Found != 0 || report.MissingBlobs != 0 {
		t.Errorf("%+v", report)
	}
	later := func() time.Time { return time.Now().Add(2 * time.Hour) } // when what was staged has expired
	again := open(t, to, options{Now: later})
	if head, err := again.host.Head(t.Context(), did); err != nil || head != before {
		t.Errorf("%v, %v", head, err)
	}
	if err := again.Store.Events.Trim(t.Context(), time.Time{}); err != nil {
		t.Error(err)
	}
	if err := again.DB.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// m0 is the account of the first blob that was lost.
func m0(t *testing.T, w *world, dest string) syntax.DID {
	t.Helper()
	m, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, dest)
	if err != nil || m.Lost == 0 {
		t.Fatal(m, err)
	}
	return m.LostBlobs[0].DID
}

// A blob that neither has is missing: a loss, unless it is excused. The rest is backed up and
// restored.
func TestBlobsThatNobodyHas(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Records: 5, Blobs: 3})
	if err := os.Remove(blobFiles(t, w.Blobs)[0]); err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(t.TempDir(), "backup")
	if m := w.backup(t, backup.Backup{Layout: layout}, dest); m.Lost != 1 || m.Missing != 1 || m.Blobs != 5 || m.LostBlobs[0].Kept {
		t.Errorf("%+v", m)
	}
	if r := restored(t, dest); r.Blobs != 5 || r.MissingBlobs != 1 {
		t.Errorf("%+v", r)
	}
	var asked []backup.Lost
	b := backup.Backup{Layout: layout, Excused: func(_ context.Context, copied storage.Store, blob backup.Lost) (bool, error) {
		if copied.Repos == w.Store.Repos {
			t.Error("asked about the server's own data, not of the copy")
		}
		asked = append(asked, blob)
		return true, nil
	}}
	if m := w.backup(t, b, dest); m.Lost != 0 || m.Missing != 1 || len(asked) != 1 {
		t.Errorf("%+v, asked about %v", m, asked)
	}
	// A backup that has it is evidence that it was there.
	asked = nil
	other := filepath.Join(t.TempDir(), "backup")
	w.seed(t, 2, 3, seed.Seed{Blobs: 1})
	w.backup(t, b, other)
	asked = nil
	for _, file := range blobFiles(t, w.Blobs) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if m := w.backup(t, b, other); m.Lost != 6 || m.Missing != 1 || len(asked) != 1 {
		t.Errorf("%+v, asked about %v", m, asked)
	}
}

// A tar file that lacks what the server has lost does not take the place of one that has it.
func TestTarFileOfAServerThatHasLostBlobs(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 2})
	dest := filepath.Join(t.TempDir(), "pds.tar")
	b := backup.Backup{Layout: layout, Files: secretFiles}
	for range 2 {
		if m, at, err := b.ToTarFile(t.Context(), w.Source, dest); err != nil || at != dest || m.Lost != 0 {
			t.Fatal(m, at, err)
		}
	}
	if err := os.Remove(blobFiles(t, w.Blobs)[0]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m, at, err := b.ToTarFile(t.Context(), w.Source, dest)
		if err != nil || !strings.HasPrefix(at, dest+".2") || m.Lost != 1 || m.Missing != 1 {
			t.Fatal(m, at, err)
		}
		if r := restored(t, at); r.Blobs != 1 {
			t.Errorf("%+v", r)
		}
	}
	if r := restored(t, dest); r.Blobs != 2 {
		t.Errorf("%+v", r)
	}
	if left, _ := filepath.Glob(dest + "*"); len(left) != 3 {
		t.Errorf("%q", left)
	}
	if left, _ := filepath.Glob(filepath.Join(w.Path, "backup-*")); len(left) != 0 {
		t.Errorf("%q", left)
	}
}

// Copies that were damaged in the backup are noticed and made again.
func TestDamagedCopiesAreMadeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(file string, text []byte) error
		fast   bool // it can be seen without reading the whole file
	}{
		"a byte":      {func(file string, b []byte) error { b[0] ^= 1; return os.WriteFile(file, b, 0o600) }, false},
		"cut off":     {func(file string, b []byte) error { return os.Truncate(file, int64(len(b)-1)) }, true},
		"empty":       {func(file string, _ []byte) error { return os.Truncate(file, 0) }, true},
		"zeros":       {func(file string, b []byte) error { return os.WriteFile(file, make([]byte, len(b)), 0o600) }, true},
		"longer":      {func(file string, b []byte) error { return os.WriteFile(file, append(b, 0), 0o600) }, true},
		"not there":   {func(file string, _ []byte) error { return os.Remove(file) }, true},
		"a link away": {func(file string, _ []byte) error { return errors.Join(os.Remove(file), os.Symlink("/dev/null", file)) }, true},
	} {
		for _, fast := range []bool{false, true} {
			if fast && !c.fast {
				continue
			}
			t.Run(name, func(t *testing.T) {
				dest := filepath.Join(t.TempDir(), "backup")
				w := open(t, filepath.Join(t.TempDir(), "data"), options{})
				w.seed(t, 0, 1, seed.Seed{Blobs: 3})
				w.backup(t, backup.Backup{Layout: layout}, dest)
				before := files(t, filepath.Join(dest, nameBlobs))
				file := blobFiles(t, filepath.Join(dest, nameBlobs))[1]
				text, err := os.ReadFile(file)
				if err == nil {
					err = c.damage(file, bytes.Clone(text))
				}
				if err != nil {
					t.Fatal(err)
				}
				if m := w.backup(t, backup.Backup{Layout: layout, Fast: fast}, dest); m.Lost != 0 || m.Blobs != 3 {
					t.Errorf("%+v", m)
				}
				if d := cmp.Diff(before, files(t, filepath.Join(dest, nameBlobs))); d != "" {
					t.Error(d)
				}
				// If the server has lost it too, it is not taken for good.
				if err := c.damage(file, bytes.Clone(text)); err != nil {
					t.Fatal(err)
				}
				damaged, _ := os.ReadFile(file)
				if err := os.Remove(blobFiles(t, w.Blobs)[1]); err != nil {
					t.Fatal(err)
				}
				if m := w.backup(t, backup.Backup{Layout: layout, Fast: fast}, dest); m.Lost != 1 || m.Missing != 1 || m.LostBlobs[0].Kept {
					t.Errorf("%+v", m)
				}
				if left, _ := os.ReadFile(file); !bytes.Equal(left, damaged) {
					t.Error("what was left of it is not there any longer")
				}
				if r := restored(t, dest); r.Blobs != 2 || r.MissingBlobs != 1 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

// Generations stay as -keep says, and blobs as long as one of them refers to them.
func TestGenerations(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	start := time.Date(2026, 11, 2, 3, 30, 0, 0, time.UTC) // a Monday
	var keep backup.Keep
	if err := keep.Set("3d,2w"); err != nil {
		t.Fatal(err)
	}
	old := w.dids[0]
	blobs := map[string]int{}
	for day := range 16 {
		if day == 1 { // what only the first generation has
			acct, err := w.accounts.ByDID(t.Context(), old)
			if err == nil {
				err = w.accounts.Delete(t.Context(), account.Trusted(acct.DID))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.seed(t, 10+day, 11+day, seed.Seed{Blobs: 1})
		w.backup(t, backup.Backup{Layout: layout, Keep: keep, Now: func() time.Time { return start.AddDate(0, 0, day) }}, dest)
		for _, g := range generationsOf(t, dest) {
			r := restored(t, g)
			if n, ok := blobs[g]; ok && r.Blobs != n || r.Found != 0 {
				t.Errorf("day %d, %s: %+v", day, g, r)
			}
			blobs[g] = r.Blobs
		}
	}
	var days []string
	for _, g := range generationsOf(t, dest) {
		days = append(days, filepath.Base(g))
	}
	if d := cmp.Diff([]string{"20261115T033000Z", "20261116T033000Z", "20261117T033000Z"}, days); d != "" {
		t.Error(d) // the Sunday is also that of the week before
	}
	if n := len(blobFiles(t, filepath.Join(dest, nameBlobs))); n != 16 {
		t.Errorf("%d blobs are left, want 16", n)
	}
	// Without -keep, the newest alone.
	w.backup(t, backup.Backup{Layout: layout}, dest)
	if g := generationsOf(t, dest); len(g) != 1 {
		t.Errorf("%q", g)
	}
}

func TestKeep(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	times := []time.Time{at("2026-03-02 09:30"), at("2026-03-02 09:10"), at("2026-03-02 08:00"), at("2026-03-01 08:00"), at("2026-02-28 08:00"), at("2026-02-22 08:00"),
		at("2026-01-05 08:00"), at("2025-12-31 08:00"), at("2024-05-01 08:00")}
	for text, want := range map[string][]int{
		"1": {0}, "3": {0, 1, 2}, "2h": {0, 2}, "2d": {0, 3}, "7d": {0, 3, 4, 5, 6, 7, 8}, "3w": {0, 3, 5}, "2m": {0, 4}, "3y": {0, 7, 8}, "2d,2y": {0, 3, 7}, "1d,1w,1m,1y": {0}, "10000": {0, 1, 2, 3, 4, 5, 6, 7, 8},
	} {
		var k backup.Keep
		if err := k.Set(text); err != nil || k.String() != text {
			t.Errorf("%q: %q, %v", text, k, err)
		}
		var got []int
		for i, kept := range backup.Choose(k, times) {
			if kept {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s keeps %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "0", "0d", "d", "-1d", "7x", "7dd", "7d,", ",7d", "7 d", "1.5d", "10001d", "99999999999999999999"} {
		k := backup.Keep{{Count: 1}}
		if err := k.Set(text); err == nil || len(k) != 1 {
			t.Errorf("%q: %v, %v", text, k, err)
		}
	}
}

// Whatever the clock says, the generation with the newest events is the newest: it is restored and
// stays.
func TestGenerationsOfAWrongClock(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	for n, year := range []int{2026, 2036, 2026} {
		w.seed(t, n, n+1, seed.Seed{Blobs: 1})
		w.backup(t, backup.Backup{Layout: layout, Now: func() time.Time { return time.Date(year, 1, 1+n, 0, 0, 0, 0, time.UTC) }}, dest)
		if r := restored(t, dest); r.Accounts != n+1 {
			t.Errorf("%d accounts, want %d", r.Accounts, n+1)
		}
	}
	if g := generationsOf(t, dest); len(g) != 1 || filepath.Base(g[0]) != "20260103T000000Z" {
		t.Errorf("%q", g)
	}
}

// Of generations without events between them, as when only a password was changed, the last one is
// the newest, though its clock was behind.
func TestGenerationsOfAClockThatGoesBack(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{})
	keep := backup.Keep{{Count: 10}}
	for n, hour := range []int{12, 20, 10, 11} {
		err := w.Store.KV.Write(t.Context(), func(tx storage.KVTx) error {
			return tx.Set(t.Context(), "state", fmt.Append(nil, n), time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
		m := w.backup(t, backup.Backup{Layout: layout, Keep: keep, Now: func() time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }}, dest)
		if m.Number != n+1 {
			t.Errorf("generation %d has number %d", n+1, m.Number)
		}
		to := filepath.Join(t.TempDir(), "restored")
		if _, err := (backup.Restore{Layout: layout}).From(t.Context(), dest, nil, to); err != nil {
			t.Fatal(err)
		}
		err = open(t, to, options{}).Store.KV.Read(t.Context(), func(r storage.KVReader) error {
			got, err := r.Get(t.Context(), "state")
			if string(got) != fmt.Sprint(n) {
				t.Errorf("state %s is restored, want %d", got, n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if g := generationsOf(t, dest); len(g) != 4 {
		t.Errorf("%q", g)
	}
}

// A clock that goes back and forth does not use up the days that are kept.
func TestKeepOfAClockThatGoesBackAndForth(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 8, 0, 0, 0, time.UTC) }
	got := backup.Choose(backup.Keep{{Count: 3, Unit: 'd'}}, []time.Time{day(9), day(20), day(9), day(20), day(9), day(8), day(7)})
	if want := []bool{true, true, false, false, false, true, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A backup of an older state, as of a server that was set up anew, does not push out what is there.
func TestBackupOfAnOlderState(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	before := files(t, dest)
	empty := open(t, filepath.Join(t.TempDir(), "data"), options{})
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), empty.Source, dest); !errors.Is(err, backup.ErrOlder) {
		t.Error(err)
	}
	if d := cmp.Diff(before, files(t, dest)); d != "" {
		t.Error(d)
	}
}

// A backup is not written over what it is made of, under whatever name.
func TestBackupOntoItself(t *testing.T) {
	for _, separate := range []bool{false, true} {
		root := t.TempDir()
		opt := options{}
		if separate {
			opt.Blobs = filepath.Join(root, "disk", nameBlobs) // as if it were that of a backup
		}
		w := open(t, filepath.Join(root, "data"), opt)
		w.seed(t, 0, 1, seed.Seed{Blobs: 1})
		if err := w.DB.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The data directory was a backup once.
		writeFiles(t, w.Path, map[string]string{"backup.json": "{}"})
		link := filepath.Join(root, "link")
		pool := filepath.Join(root, "pool")
		for _, err := range []error{os.Symlink(w.Path, link), os.Mkdir(pool, 0o700), os.Symlink(w.Blobs, filepath.Join(pool, nameBlobs)),
			os.WriteFile(filepath.Join(pool, "backup.json"), []byte("{}"), 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		before := files(t, w.Blobs)
		dests := []string{w.Path, link, filepath.Join(w.Path, "."), pool, w.Blobs, filepath.Join(w.Blobs, "blobs"), filepath.Join(w.Blobs, "new"), filepath.Join(w.Blobs, "blobs", "new", "folder")}
		if separate {
			dests = append(dests, filepath.Join(root, "disk"))
		}
		for _, dest := range dests {
			if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, dest); !errors.Is(err, backup.ErrItself) {
				t.Errorf("%s: %v", dest, err)
			}
		}
		for _, name := range []string{nameDatabase, nameDatabase + "-wal", nameSecrets, "lock"} {
			for _, dir := range []string{w.Path, link} {
				if _, _, err := (backup.Backup{Layout: layout}).ToTarFile(t.Context(), w.Source, filepath.Join(dir, name)); !errors.Is(err, backup.ErrItself) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		thesis := filepath.Join(root, "thesis.txt")
		writeFiles(t, root, map[string]string{"thesis.txt": "Of pigs and pens."})
		for _, dest := range []string{thesis, root} {
			if _, _, err := (backup.Backup{Layout: layout}).ToTarFile(t.Context(), w.Source, dest); !errors.Is(err, backup.ErrNotBackup) {
				t.Errorf("%s: %v", dest, err)
			}
		}
		if d := cmp.Diff(before, files(t, w.Blobs)); d != "" {
			t.Error(d)
		}
		// Below the data directory there is room.
		if m := w.backup(t, backup.Backup{Layout: layout}, filepath.Join(w.Path, "backups")); m.Blobs != 1 {
			t.Errorf("%+v", m)
		}
	}
}

// Two backups into a directory at a time would take each other's blobs for old ones.
func TestTwoBackupsAtOnce(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	b := backup.Backup{Layout: layout, Verify: func(ctx context.Context, _ storage.Store) error {
		if _, err := (backup.Backup{Layout: layout}).ToDir(ctx, w.Source, dest); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("a backup beside another: %v", err)
		}
		if _, err := (backup.Restore{Layout: layout}).From(ctx, dest, nil, filepath.Join(t.TempDir(), "restored")); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("a restore beside a backup: %v", err)
		}
		return nil
	}}
	if _, err := b.ToDir(t.Context(), w.Source, dest); err != nil {
		t.Error(err)
	}
}

// A backup to a disk that is full is an error that says so, and leaves the older generation whole.
func TestBackupToAFullDisk(t *testing.T) {
	faults := faultvfs.Install()
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Records: 200, Blobs: 2})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	before := files(t, dest)
	for n := 1; ; n += 7 {
		calls := 0
		faults.Set(func() error {
			if calls++; calls < n {
				return nil
			}
			return syscall.ENOSPC
		})
		_, err := (backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 1}}}).ToDir(t.Context(), w.Source, dest)
		faults.Set(nil)
		if err == nil {
			if n == 1 {
				t.Error("nothing failed")
			}
			break
		}
		if !errors.Is(err, storage.ErrFull) {
			t.Fatalf("call %d: %v", n, err)
		}
		if d := cmp.Diff(before, files(t, dest)); d != "" {
			t.Fatalf("call %d: %s", n, d)
		}
	}
	if r := restored(t, dest); r.Found != 0 || r.Blobs != 2 {
		t.Errorf("%+v", r)
	}
}

// As long as nobody knows which blobs a generation has, none is deleted; and it is not passed over
// silently.
func TestGenerationThatCannotBeRead(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"no list":     func(dir string) error { return os.Remove(filepath.Join(dir, "blobs.list")) },
		"another":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "blobs.list"), nil, 0o600) },
		"no manifest": func(dir string) error { return os.Remove(filepath.Join(dir, "backup.json")) },
		"half a manifest": func(dir string) error {
			return os.Truncate(filepath.Join(dir, "backup.json"), 20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dest := filepath.Join(t.TempDir(), "backup")
			w := open(t, filepath.Join(t.TempDir(), "data"), options{})
			w.seed(t, 0, 1, seed.Seed{Blobs: 2})
			w.backup(t, backup.Backup{Layout: layout}, dest)
			old := generationsOf(t, dest)[0]
			if err := damage(old); err != nil {
				t.Fatal(err)
			}
			acct, err := w.accounts.ByDID(t.Context(), w.dids[0])
			if err == nil {
				err = w.accounts.Delete(t.Context(), account.Trusted(acct.DID))
			}
			if err != nil {
				t.Fatal(err)
			}
			w.seed(t, 1, 2, seed.Seed{Blobs: 1})
			w.backup(t, backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 5}}}, dest)
			if n := len(blobFiles(t, filepath.Join(dest, nameBlobs))); n != 3 {
				t.Errorf("%d blobs are left, want 3", n)
			}
			unreadable := strings.Contains(name, "manifest")
			var report *check.Report
			_, err = (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), dest, nil, filepath.Join(t.TempDir(), "restored"))
			if unreadable != errors.Is(err, backup.ErrBadBackup) || unreadable != (err != nil) {
				t.Error(err)
			}
			newest := generationsOf(t, dest)
			if r := restored(t, newest[len(newest)-1]); r.Blobs != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What a killed process left below the data directory, with the secrets in it, goes with the next
// backup.
func TestLeftoversOfKilledBackups(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	dest := filepath.Join(t.TempDir(), "pds.tar")
	writeFiles(t, w.Path, map[string]string{"backup-123/next": "x", "backup-123/lock": "", "backup-of-mine.txt": "y"})
	writeFiles(t, filepath.Dir(dest), map[string]string{"pds.tar.part-123": "x"})
	if _, _, err := (backup.Backup{Layout: layout}).ToTarFile(t.Context(), w.Source, dest); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.Path, "backup-*")); len(left) != 1 || filepath.Base(left[0]) != "backup-of-mine.txt" {
		t.Errorf("%q", left)
	}
	if left, _ := filepath.Glob(dest + "*"); len(left) != 1 {
		t.Errorf("%q", left)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	w.backup(t, backup.Backup{Layout: layout}, dir)
	before := files(t, dir)
	writeFiles(t, dir, map[string]string{"generations/next/pds.sqlite": "x", "generations/gone-20200101T000000Z/pds.sqlite": "x", "next.blob": "x", "verify-1/pds.sqlite": "x", "next.sqlite": "x"})
	w.backup(t, backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 2}}}, dir)
	after := files(t, dir)
	for name := range before {
		delete(after, name)
	}
	if len(after) != 4 { // the files of another generation
		t.Errorf("%d files more", len(after))
	}
}

// A blob that is put back is one that was verified.
func TestBackupBlob(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	file := blobFiles(t, filepath.Join(dest, nameBlobs))[0]
	blob, err := cid.Decode(filepath.Base(file))
	if err != nil {
		t.Fatal(err)
	}
	f, info, err := layout.Blob(t.Context(), dest, w.dids[0], blob)
	if err != nil || info.MIME != "text/plain" {
		t.Fatal(info, err)
	}
	f.Close()
	if _, _, err := layout.Blob(t.Context(), dest, "did:web:other.example", blob); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if err := os.Truncate(file, 5); err != nil {
		t.Fatal(err)
	}
	if _, _, err := layout.Blob(t.Context(), dest, w.dids[0], blob); !errors.Is(err, storage.ErrCorrupt) {
		t.Error(err)
	}
}
