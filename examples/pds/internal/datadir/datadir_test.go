package datadir_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/examples/pds/internal/check"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/sealed"
)

var masterKey = bytes.Repeat([]byte{7}, 32)

// world is a data directory with accounts in it.
type world struct {
	*datadir.Dir
	accounts *account.Store
	host     *repo.Host
	dids     []syntax.DID
}

func open(t *testing.T, path string, opt datadir.Options) *world {
	t.Helper()
	d, err := datadir.Open(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ring, err := sealed.New(masterKey)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Dir: d, accounts: account.Open(repo.Config{Store: d.Store}, ring)}
	w.host = w.accounts.Host()
	return w
}

func (w *world) seed(t *testing.T, from, to int, s seed.Seed) {
	t.Helper()
	for n := from; n < to; n++ {
		a, err := s.Account(t.Context(), w.accounts, n)
		if err != nil {
			t.Fatal(err)
		}
		w.dids = append(w.dids, a.DID)
	}
}

// verify checks a directory as the commands do.
func verify(report **check.Report) func(context.Context, *datadir.Dir) error {
	return verifyWith(report, check.Options{})
}

func verifyWith(report **check.Report, opt check.Options) func(context.Context, *datadir.Dir) error {
	return func(ctx context.Context, d *datadir.Dir) error {
		ring, err := sealed.New(masterKey)
		if err != nil {
			return err
		}
		accts := account.Open(repo.Config{Store: d.Store}, ring)
		if err := accts.Repair(ctx); err != nil { // the copy may be of a moment in the midst of a deletion
			return err
		}
		r, err := check.Server{Database: d.DB.Check, Store: d.Store, Accounts: accts}.Run(ctx, opt)
		if err == nil && r.Found > r.LostBlobs {
			err = errors.New(r.Problems[0].String())
		}
		*report = r
		return err
	}
}

func verifyRestored(report **check.Report) func(context.Context, *datadir.Dir, *datadir.Manifest) error {
	return func(ctx context.Context, d *datadir.Dir, m *datadir.Manifest) error {
		err := verify(report)(ctx, d)
		if err == nil && (*report).MissingBlobs > m.Missing {
			err = errors.New("blobs are missing")
		}
		return err
	}
}

// files are the names and contents below a directory, but for what opening adds.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		text, err := os.ReadFile(file)
		m[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var secrets = map[string][]byte{datadir.Secrets: []byte("{\"secret\":1}\n")}

func TestBackupAndRestore(t *testing.T) {
	for _, separate := range []bool{false, true} {
		root := t.TempDir()
		path := func(name string) string { return filepath.Join(root, name) }
		opt, restored := datadir.Options{}, datadir.Restore{}
		if separate {
			opt.Blobs, restored.Blobs = path("blobs"), path("restored/blobs")
		}
		w := open(t, path("data"), opt)
		w.seed(t, 0, 3, seed.Seed{Records: 150, Blobs: 5})
		if err := os.WriteFile(filepath.Join(w.Path, datadir.PLC), []byte("line\nhalf a li"), 0o600); err != nil {
			t.Fatal(err)
		}
		var report *check.Report
		b := datadir.Backup{Version: "v", Host: "h", Files: secrets, Verify: verify(&report)}
		m, err := b.ToDir(t.Context(), w.Dir, path("backup"))
		if err != nil {
			t.Fatal(err)
		}
		if m.Blobs != 15 || m.Host != "h" || m.Newest == 0 || report.Records != 3*155 || report.Blobs != 15 {
			t.Errorf("%+v, %+v", m, report)
		}
		var archive bytes.Buffer
		b.Verify = nil
		if _, err := b.ToTar(t.Context(), w.Dir, &archive); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(path("data/backup-*")); left != nil {
			t.Errorf("left over: %v", left)
		}
		// The server goes on, and the backup does not care.
		w.seed(t, 3, 4, seed.Seed{Records: 1})

		for name, from := range map[string]string{"directory": path("backup"), "tar": "-"} {
			restored.Verify = verifyRestored(&report)
			if separate {
				restored.Blobs = path("restored-blobs-" + name)
			}
			dest := path("restored-" + name)
			if _, err := restored.From(t.Context(), from, bytes.NewReader(archive.Bytes()), dest); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if report.Accounts != 3 || report.Blobs != 15 || report.Records != 3*155 {
				t.Errorf("%s: %+v", name, report)
			}
			got := files(t, dest)
			if got[datadir.Secrets] != string(secrets[datadir.Secrets]) || got[datadir.PLC] != "line\n" {
				t.Errorf("%s: files differ", name)
			}
			// What was restored is a server's directory like any other.
			r := open(t, dest, datadir.Options{Blobs: restored.Blobs, Existing: true})
			r.seed(t, 10, 11, seed.Seed{Records: 1, Blobs: 1})
			if _, newest, err := r.Store.Events.Bounds(t.Context()); err != nil || newest <= m.Newest {
				t.Errorf("%s: sequence numbers go back: %d after %d, %v", name, newest, m.Newest, err)
			}
			if _, err := restored.From(t.Context(), from, bytes.NewReader(archive.Bytes()), dest); !errors.Is(err, datadir.ErrNotEmpty) {
				t.Errorf("%s: over what is there: %v", name, err)
			}
		}
	}
}

func TestSecondBackupCopiesOnlyNewBlobs(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "backup")
	w := open(t, filepath.Join(root, "data"), datadir.Options{})
	w.seed(t, 0, 2, seed.Seed{Blobs: 3})
	b := datadir.Backup{Files: secrets}
	if _, err := b.ToDir(t.Context(), w.Dir, dest); err != nil {
		t.Fatal(err)
	}
	times := func() map[string]int64 {
		m := make(map[string]int64)
		filepath.WalkDir(filepath.Join(dest, datadir.Blobs), func(file string, e fs.DirEntry, err error) error {
			if info, err := e.Info(); err == nil && !e.IsDir() {
				m[file] = info.ModTime().UnixNano()
			}
			return nil
		})
		return m
	}
	before := times()
	w.seed(t, 2, 3, seed.Seed{Blobs: 1})
	acct, err := w.accounts.ByDID(t.Context(), w.dids[0])
	if err == nil {
		err = w.accounts.Delete(t.Context(), account.Trusted(acct.DID))
	}
	if err != nil {
		t.Fatal(err)
	}
	var report *check.Report
	b.Verify = verify(&report)
	m, err := b.ToDir(t.Context(), w.Dir, dest)
	if err != nil {
		t.Fatal(err)
	}
	if m.Blobs != 4 || report.Blobs != 4 {
		t.Errorf("%d blobs, want 4", m.Blobs)
	}
	after := times()
	same := 0
	for file, at := range after {
		if before[file] == at {
			same++
		}
	}
	if len(after) != 4 || same != 3 {
		t.Errorf("%d blobs in the backup, %d of them from before", len(after), same)
	}
	if _, err := (datadir.Restore{Verify: verifyRestored(&report)}).From(t.Context(), dest, nil, filepath.Join(root, "restored")); err != nil {
		t.Error(err)
	}
}

// A backup that does not come to its end leaves the one before it good.
func TestInterruptedBackupLeavesTheOlderOne(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "backup")
	w := open(t, filepath.Join(root, "data"), datadir.Options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 2})
	if _, err := (datadir.Backup{Files: secrets}).ToDir(t.Context(), w.Dir, dest); err != nil {
		t.Fatal(err)
	}
	w.seed(t, 1, 2, seed.Seed{Blobs: 2})
	stop := errors.New("stop")
	bad := datadir.Backup{Files: secrets, Verify: func(context.Context, *datadir.Dir) error { return stop }}
	if _, err := bad.ToDir(t.Context(), w.Dir, dest); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	for n := 1; n <= 4; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		b := datadir.Backup{Files: secrets, Progress: func(blobs int) {
			if blobs == n {
				cancel()
			}
		}}
		if _, err := b.ToDir(ctx, w.Dir, dest); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at blob %d: %v", n, err)
		}
		cancel()
	}
	if list := generationsOf(t, dest); len(list) != 1 {
		t.Errorf("generations %q, want one", list)
	}
	var report *check.Report
	r := datadir.Restore{Verify: verifyRestored(&report)}
	if _, err := r.From(t.Context(), dest, nil, filepath.Join(root, "one")); err != nil || report.Accounts != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

// generationsOf are the folders of a backup's generations, the oldest first.
func generationsOf(t *testing.T, dest string) (list []string) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dest, "generations", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// unpacked is a backup in a directory without generations: a tar file that was unpacked, or what
// an earlier version made.
func unpacked(t *testing.T, w *world, dest string) map[string]string {
	t.Helper()
	var archive bytes.Buffer
	if _, err := (datadir.Backup{Files: secrets}).ToTar(t.Context(), w.Dir, &archive); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		text, readErr := io.ReadAll(r)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(text)
	}
	writeFiles(t, dest, all)
	return all
}

func writeFiles(t *testing.T, dir string, all map[string]string) {
	t.Helper()
	for name, text := range all {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup of an earlier version is restored, also one that was interrupted when the power failed;
// a backup into its directory adds a generation, and drops or keeps it as it does others.
func TestBackupOfAnEarlierVersion(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "backup")
	w := open(t, filepath.Join(root, "data"), datadir.Options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 2})
	text := unpacked(t, w, dest)["backup.json"]
	var report *check.Report
	r := datadir.Restore{Verify: verifyRestored(&report)}
	restores := func(name string, accounts int) {
		t.Helper()
		if _, err := r.From(t.Context(), dest, nil, filepath.Join(root, name)); err != nil || report.Accounts != accounts || report.Blobs != 2*accounts {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	// As if the power had failed between the two renames at the end.
	writeFiles(t, dest, map[string]string{"backup.next.json": `{"format":1,"files":{}}`})
	restores("before", 1)
	os.Rename(filepath.Join(dest, "backup.json"), filepath.Join(dest, "backup.next.json"))
	restores("after", 1)
	writeFiles(t, dest, map[string]string{"backup.json": strings.ReplaceAll(text, `"sha256": "`, `"sha256": "0`)})
	restores("with an older manifest beside it", 1)

	w.seed(t, 1, 2, seed.Seed{Blobs: 2})
	keep := datadir.Backup{Files: secrets, Keep: datadir.Keep{{Count: 2}}, Now: func() time.Time { return time.Now().Add(time.Hour) }}
	if _, err := keep.ToDir(t.Context(), w.Dir, dest); err != nil {
		t.Fatal(err)
	}
	restores("newest", 2)
	if _, err := os.Stat(filepath.Join(dest, datadir.Database)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := keep.ToDir(t.Context(), w.Dir, dest); err != nil {
			t.Fatal(err)
		}
	}
	restores("newest of two", 2)
	if left, _ := filepath.Glob(filepath.Join(dest, "*")); len(left) != 3 || len(generationsOf(t, dest)) != 2 {
		t.Errorf("%q, %q", left, generationsOf(t, dest))
	}
}

func TestBackupRefusesOtherDirectories(t *testing.T) {
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), datadir.Options{})
	if err := os.WriteFile(filepath.Join(root, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (datadir.Backup{}).ToDir(t.Context(), w.Dir, root); !errors.Is(err, datadir.ErrNotBackup) {
		t.Error(err)
	}
	// A backup with something else in it is not touched either.
	dest := filepath.Join(root, "backup")
	if _, err := (datadir.Backup{}).ToDir(t.Context(), w.Dir, dest); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dest, map[string]string{"thesis.txt": ""})
	before := files(t, dest)
	if _, err := (datadir.Backup{}).ToDir(t.Context(), w.Dir, dest); !errors.Is(err, datadir.ErrNotBackup) || !strings.Contains(err.Error(), "thesis.txt") {
		t.Error(err)
	}
	if d := cmp.Diff(before, files(t, dest)); d != "" {
		t.Error(d)
	}
}

func TestChangedBackupsAreRefused(t *testing.T) {
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), datadir.Options{})
	w.seed(t, 0, 1, seed.Seed{Records: 20, Blobs: 1})
	good := filepath.Join(root, "backup")
	if _, err := (datadir.Backup{Files: secrets}).ToDir(t.Context(), w.Dir, good); err != nil {
		t.Fatal(err)
	}
	plain := unpacked(t, w, filepath.Join(root, "unpacked"))
	blob := ""
	for name := range plain {
		if strings.HasPrefix(name, datadir.Blobs+"/blobs/") {
			blob = name
		}
	}
	generation, err := filepath.Rel(good, generationsOf(t, good)[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(m map[string]string, in string){
		"database":        func(m map[string]string, in string) { m[in+datadir.Database] += "x" },
		"secrets":         func(m map[string]string, in string) { m[in+datadir.Secrets] = "{}" },
		"no secrets":      func(m map[string]string, in string) { delete(m, in+datadir.Secrets) },
		"no database":     func(m map[string]string, in string) { delete(m, in+datadir.Database) },
		"no manifest":     func(m map[string]string, in string) { delete(m, in+"backup.json") },
		"broken manifest": func(m map[string]string, in string) { m[in+"backup.json"] = "{" },
		"empty manifest":  func(m map[string]string, in string) { m[in+"backup.json"] = "{}" },
		"blob":            func(m map[string]string, _ string) { m[blob] = "X" + m[blob][1:] },
		"shorter blob":    func(m map[string]string, _ string) { m[blob] = m[blob][1:] },
		"no blob":         func(m map[string]string, _ string) { delete(m, blob) },
		"manifest escapes": func(m map[string]string, in string) {
			m[in+"backup.json"] = strings.Replace(m[in+"backup.json"], "secrets.json", "../secrets.json", 1)
		},
		"list": func(m map[string]string, in string) {
			if in == "" {
				m[datadir.Secrets] = "" // there is no list
			}
			m[in+"blobs.list"] = ""
		},
		"list escapes": func(m map[string]string, in string) {
			if in == "" {
				m[datadir.Secrets] = ""
			}
			m[in+"blobs.list"] += "../../../secrets.json\n"
		},
	} {
		for form, in := range map[string]string{"generation": generation + "/", "directory": "", "tar": ""} {
			m, source := make(map[string]string), plain
			if form == "generation" {
				source = files(t, good)
			}
			for k, v := range source {
				m[k] = v
			}
			change(m, in)
			from := filepath.Join(t.TempDir(), "b")
			writeFiles(t, from, m)
			if form == "tar" {
				from = "-"
			}
			var report *check.Report
			dest := filepath.Join(t.TempDir(), "restored")
			if _, err := (datadir.Restore{Verify: verifyRestored(&report)}).From(t.Context(), from, tarOf(t, m), dest); !errors.Is(err, datadir.ErrBadBackup) {
				t.Errorf("%s, %s: %v", name, form, err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(dest)); len(entries) > 0 {
				t.Errorf("%s, %s: %v is left over", name, form, entries)
			}
		}
	}
}

func tarOf(t *testing.T, m map[string]string) io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range m {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	w.Close()
	return &b
}

func TestHostileTarFiles(t *testing.T) {
	link := func(typ byte, name, to string) io.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Typeflag: typ, Name: name, Linkname: to})
		w.Close()
		return &b
	}
	for name, in := range map[string]io.Reader{
		"empty":            strings.NewReader(""),
		"no tar":           strings.NewReader(strings.Repeat("x", 2000)),
		"parent":           tarOf(t, map[string]string{"../evil": "x"}),
		"absolute":         tarOf(t, map[string]string{"/etc/evil": "x"}),
		"inside and out":   tarOf(t, map[string]string{datadir.Blobs + "/blobs/../../../evil": "x"}),
		"other file":       tarOf(t, map[string]string{"pds.sqlite-wal": "x"}),
		"backslash":        tarOf(t, map[string]string{datadir.Blobs + `/blobs/..\..\evil`: "x"}),
		"symbolic link":    link(tar.TypeSymlink, datadir.Blobs+"/blobs", "/tmp"),
		"hard link":        link(tar.TypeLink, datadir.Secrets, "/etc/passwd"),
		"device":           link(tar.TypeChar, datadir.Secrets, ""),
		"blobs is no file": tarOf(t, map[string]string{datadir.Blobs: "x"}),
	} {
		root := t.TempDir()
		if _, err := (datadir.Restore{}).From(t.Context(), "-", in, filepath.Join(root, "a/data")); !errors.Is(err, datadir.ErrBadBackup) {
			t.Errorf("%s: %v", name, err)
		}
		if got := files(t, root); len(got) > 0 {
			t.Errorf("%s: files %v", name, got)
		}
	}
}

func TestLock(t *testing.T) {
	path := t.TempDir()
	if _, err := datadir.Open(t.Context(), path, datadir.Options{Existing: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a database: %v", err)
	}
	if left, _ := os.ReadDir(path); len(left) > 0 {
		t.Errorf("opening what is not there made %v", left)
	}
	one := open(t, path, datadir.Options{})
	two := open(t, path, datadir.Options{})
	if _, err := datadir.Open(t.Context(), path, datadir.Options{Alone: true}); !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("alone, beside two others: %v", err)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Fatal(err)
	}
	alone := open(t, path, datadir.Options{Alone: true})
	if _, err := datadir.Open(t.Context(), path, datadir.Options{}); !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("beside one that wants to be alone: %v", err)
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, datadir.Options{})
}

// While a server writes and deletes, a backup is good whenever it is made. It lacks no blobs
// but those of accounts that were deleted after the copy of the database and before
// the blobs were looked through for the last time.
func TestBackupWhileWriting(t *testing.T) {
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), datadir.Options{})
	w.seed(t, 0, 5, seed.Seed{Records: 50, Blobs: 5})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for n := 100; ctx.Err() == nil; n++ {
			a, err := seed.Seed{Records: 3, Blobs: 3}.Account(context.Background(), w.accounts, n)
			if err == nil && n%2 == 0 {
				err = w.accounts.Delete(context.Background(), account.Trusted(a.DID))
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var report *check.Report
	missing := make(map[syntax.DID]int)
	for range 3 {
		m, err := (datadir.Backup{Files: secrets, Verify: verify(&report)}).ToDir(t.Context(), w.Dir, filepath.Join(root, "backup"))
		if err != nil {
			t.Fatal(err)
		}
		if m.Lost > 0 {
			t.Errorf("the server has lost %d blobs: %v", m.Lost, m.LostBlobs)
		}
		// The copy of the database cannot know that an account was deleted since.
		if report.Found > report.LostBlobs || report.LostBlobs > m.Missing {
			t.Errorf("%d blobs are missing, %d of them lost; problems: %v", m.Missing, report.LostBlobs, report.Problems)
		}
		for _, b := range report.Missing {
			missing[b.DID]++
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for did, n := range missing {
		if _, err := w.host.Head(t.Context(), did); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("%d blobs are missing of %s, which is there: %v", n, did, err)
		}
	}
}

// A directory that is there already is filled, not replaced: it may be a volume. If that fails, it
// is as it was.
func TestRestoreIntoAnExistingDirectory(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "data"), datadir.Options{})
	w.seed(t, 0, 2, seed.Seed{Records: 3, Blobs: 1})
	backup := filepath.Join(t.TempDir(), "backup")
	if _, err := (datadir.Backup{}).ToDir(t.Context(), w.Dir, backup); err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	before, err := os.Stat(dest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dest, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, err = datadir.Restore{Verify: func(context.Context, *datadir.Dir, *datadir.Manifest) error { return broken }}.From(t.Context(), backup, nil, dest)
	if left, _ := os.ReadDir(dest); !errors.Is(err, broken) || len(left) != 1 {
		t.Errorf("%v; left: %v", err, left)
	}
	var report *check.Report
	if _, err := (datadir.Restore{Verify: verifyRestored(&report)}).From(t.Context(), backup, nil, dest); err != nil || report.Found != 0 || report.Records != 8 {
		t.Fatalf("%+v, %v", report, err)
	}
	if after, err := os.Stat(dest); err != nil || !os.SameFile(before, after) {
		t.Error("the directory is another one")
	}
	if left, err := filepath.Glob(filepath.Join(dest, ".restore-*")); err != nil || left != nil {
		t.Error(left)
	}
	d, err := datadir.Open(t.Context(), dest, datadir.Options{Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// The administrator of the machine would leave files that the server's user cannot write.
func TestDatabaseOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs the administrator's rights")
	}
	dir := t.TempDir()
	d, err := datadir.Open(t.Context(), dir, datadir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, datadir.Database), 12345, 12345); err != nil {
		t.Skip(err)
	}
	if _, err := datadir.Open(t.Context(), dir, datadir.Options{}); !errors.Is(err, datadir.ErrOwner) || !strings.Contains(err.Error(), "sudo -u '#12345'") {
		t.Error(err)
	}
}
