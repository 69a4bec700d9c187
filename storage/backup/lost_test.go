package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/seed"
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
			if testing.Short() && (lose.n != 1 || fast != strings.HasPrefix(name, "cut off")) {
				continue
			}
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
