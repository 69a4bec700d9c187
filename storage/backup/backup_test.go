package backup_test

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
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/storage/sqlite"
)

var masterKey = bytes.Repeat([]byte{7}, 32)

// The names of the files, as those of the reference server.
const (
	nameDatabase = "pds.sqlite"
	nameBlobs    = nameDatabase + ".blobs"
	nameSecrets  = "secrets.json"
	namePLC      = "plc.jsonl"
)

var layout = backup.Layout{Others: []string{nameSecrets, namePLC}}

// dir is a server's directory.
type dir struct {
	backup.Source
	DB   *sqlite.DB
	Path string
}

type options struct {
	Blobs string // empty: beside the database
	Now   func() time.Time
}

func openDir(ctx context.Context, path string, opt options) (*dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(path, nameDatabase)
	db, err := sqlite.Open(ctx, file, sqlite.Config{Now: opt.Now})
	if err != nil {
		return nil, err
	}
	d := &dir{backup.Source{Database: db, Store: db.Store(), Blobs: file + ".blobs", Dir: path, Own: []string{"lock"}}, db, path}
	if opt.Blobs != "" {
		d.Blobs = opt.Blobs
		if d.Store.Blobs, err = blobfs.Open(opt.Blobs, blobfs.Config{Now: opt.Now}); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return d, nil
}

// world is a server's directory with accounts in it.
type world struct {
	*dir
	accounts *account.Store
	host     *repo.Host
	dids     []syntax.DID
}

func open(t *testing.T, path string, opt options) *world {
	t.Helper()
	d, err := openDir(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.DB.Close() })
	ring, err := sealed.New(masterKey)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: d, accounts: account.Open(repo.Config{Store: d.Store}, ring)}
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
func verify(report **check.Report) func(context.Context, storage.Store) error {
	return verifyWith(report, check.Options{})
}

func verifyWith(report **check.Report, opt check.Options) func(context.Context, storage.Store) error {
	return func(ctx context.Context, copied storage.Store) error {
		ring, err := sealed.New(masterKey)
		if err != nil {
			return err
		}
		accts := account.Open(repo.Config{Store: copied}, ring)
		if err := accts.Repair(ctx); err != nil { // the copy may be of a moment in the midst of a deletion
			return err
		}
		r, err := accts.Checker().Run(ctx, opt)
		if err == nil && r.Found > r.LostBlobs {
			err = errors.New(r.Problems[0].String())
		}
		*report = r
		return err
	}
}

func verifyRestored(report **check.Report) func(context.Context, string, *backup.Manifest) error {
	return func(ctx context.Context, path string, m *backup.Manifest) error {
		d, err := openDir(ctx, path, options{})
		if err != nil {
			return err
		}
		err = errors.Join(verify(report)(ctx, d.Store), d.DB.Check(ctx), d.DB.Close())
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

var secrets = map[string][]byte{nameSecrets: []byte("{\"secret\":1}\n")}

func secretFiles(context.Context) (map[string][]byte, error) { return secrets, nil }

func TestBackupAndRestore(t *testing.T) {
	for _, separate := range []bool{false, true} {
		root := t.TempDir()
		path := func(name string) string { return filepath.Join(root, name) }
		opt, restored := options{}, backup.Restore{Layout: layout}
		if separate {
			opt.Blobs, restored.Blobs = path("blobs"), path("restored/blobs")
		}
		w := open(t, path("data"), opt)
		w.seed(t, 0, 3, seed.Seed{Records: 150, Blobs: 5})
		var report *check.Report
		b := backup.Backup{Layout: layout, Version: "v", Host: "h", Verify: verify(&report)}
		b.Files = func(context.Context) (map[string][]byte, error) {
			return map[string][]byte{nameSecrets: secrets[nameSecrets], namePLC: []byte("line\n")}, nil
		}
		m, err := b.ToDir(t.Context(), w.Source, path("backup"))
		if err != nil {
			t.Fatal(err)
		}
		if m.Blobs != 15 || m.Host != "h" || m.Newest == 0 || report.Records != 3*155 || report.Blobs != 15 {
			t.Errorf("%+v, %+v", m, report)
		}
		var archive bytes.Buffer
		b.Verify = nil
		if _, err := b.ToTar(t.Context(), w.Source, &archive); err != nil {
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
			if got[nameSecrets] != string(secrets[nameSecrets]) || got[namePLC] != "line\n" {
				t.Errorf("%s: files differ", name)
			}
			// What was restored is a server's directory like any other.
			r := open(t, dest, options{Blobs: restored.Blobs})
			r.seed(t, 10, 11, seed.Seed{Records: 1, Blobs: 1})
			if _, newest, err := r.Store.Events.Bounds(t.Context()); err != nil || newest <= m.Newest {
				t.Errorf("%s: sequence numbers go back: %d after %d, %v", name, newest, m.Newest, err)
			}
			if _, err := restored.From(t.Context(), from, bytes.NewReader(archive.Bytes()), dest); !errors.Is(err, backup.ErrNotEmpty) {
				t.Errorf("%s: over what is there: %v", name, err)
			}
		}
	}
}

func TestSecondBackupCopiesOnlyNewBlobs(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "backup")
	w := open(t, filepath.Join(root, "data"), options{})
	w.seed(t, 0, 2, seed.Seed{Blobs: 3})
	b := backup.Backup{Layout: layout, Files: secretFiles}
	if _, err := b.ToDir(t.Context(), w.Source, dest); err != nil {
		t.Fatal(err)
	}
	times := func() map[string]int64 {
		m := make(map[string]int64)
		filepath.WalkDir(filepath.Join(dest, nameBlobs), func(file string, e fs.DirEntry, err error) error {
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
	m, err := b.ToDir(t.Context(), w.Source, dest)
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
	if _, err := (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), dest, nil, filepath.Join(root, "restored")); err != nil {
		t.Error(err)
	}
}

// A backup that does not come to its end leaves the one before it good.
func TestInterruptedBackupLeavesTheOlderOne(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "backup")
	w := open(t, filepath.Join(root, "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 2})
	if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, dest); err != nil {
		t.Fatal(err)
	}
	w.seed(t, 1, 2, seed.Seed{Blobs: 2})
	stop := errors.New("stop")
	bad := backup.Backup{Layout: layout, Files: secretFiles, Verify: func(context.Context, storage.Store) error { return stop }}
	if _, err := bad.ToDir(t.Context(), w.Source, dest); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	for n := 1; n <= 4; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		b := backup.Backup{Layout: layout, Files: secretFiles, Progress: func(blobs int) {
			if blobs == n {
				cancel()
			}
		}}
		if _, err := b.ToDir(ctx, w.Source, dest); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at blob %d: %v", n, err)
		}
		cancel()
	}
	if list := generationsOf(t, dest); len(list) != 1 {
		t.Errorf("generations %q, want one", list)
	}
	var report *check.Report
	r := backup.Restore{Layout: layout, Verify: verifyRestored(&report)}
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
	if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToTar(t.Context(), w.Source, &archive); err != nil {
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
	w := open(t, filepath.Join(root, "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 2})
	text := unpacked(t, w, dest)["backup.json"]
	var report *check.Report
	r := backup.Restore{Layout: layout, Verify: verifyRestored(&report)}
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
	keep := backup.Backup{Layout: layout, Files: secretFiles, Keep: backup.Keep{{Count: 2}}, Now: func() time.Time { return time.Now().Add(time.Hour) }}
	if _, err := keep.ToDir(t.Context(), w.Source, dest); err != nil {
		t.Fatal(err)
	}
	restores("newest", 2)
	if _, err := os.Stat(filepath.Join(dest, nameDatabase)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := keep.ToDir(t.Context(), w.Source, dest); err != nil {
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
	w := open(t, filepath.Join(root, "data"), options{})
	if err := os.WriteFile(filepath.Join(root, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, root); !errors.Is(err, backup.ErrNotBackup) {
		t.Error(err)
	}
	// A backup with something else in it is not touched either.
	dest := filepath.Join(root, "backup")
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, dest); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dest, map[string]string{"thesis.txt": ""})
	before := files(t, dest)
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), w.Source, dest); !errors.Is(err, backup.ErrNotBackup) || !strings.Contains(err.Error(), "thesis.txt") {
		t.Error(err)
	}
	if d := cmp.Diff(before, files(t, dest)); d != "" {
		t.Error(d)
	}
}

func TestChangedBackupsAreRefused(t *testing.T) {
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Records: 20, Blobs: 1})
	good := filepath.Join(root, "backup")
	if _, err := (backup.Backup{Layout: layout, Files: secretFiles}).ToDir(t.Context(), w.Source, good); err != nil {
		t.Fatal(err)
	}
	plain := unpacked(t, w, filepath.Join(root, "unpacked"))
	blob := ""
	for name := range plain {
		if strings.HasPrefix(name, nameBlobs+"/blobs/") {
			blob = name
		}
	}
	generation, err := filepath.Rel(good, generationsOf(t, good)[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(m map[string]string, in string){
		"database":        func(m map[string]string, in string) { m[in+nameDatabase] += "x" },
		"secrets":         func(m map[string]string, in string) { m[in+nameSecrets] = "{}" },
		"no secrets":      func(m map[string]string, in string) { delete(m, in+nameSecrets) },
		"no database":     func(m map[string]string, in string) { delete(m, in+nameDatabase) },
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
				m[nameSecrets] = "" // there is no list
			}
			m[in+"blobs.list"] = ""
		},
		"list escapes": func(m map[string]string, in string) {
			if in == "" {
				m[nameSecrets] = ""
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
			if _, err := (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), from, tarOf(t, m), dest); !errors.Is(err, backup.ErrBadBackup) {
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
		"inside and out":   tarOf(t, map[string]string{nameBlobs + "/blobs/../../../evil": "x"}),
		"other file":       tarOf(t, map[string]string{"pds.sqlite-wal": "x"}),
		"backslash":        tarOf(t, map[string]string{nameBlobs + `/blobs/..\..\evil`: "x"}),
		"symbolic link":    link(tar.TypeSymlink, nameBlobs+"/blobs", "/tmp"),
		"hard link":        link(tar.TypeLink, nameSecrets, "/etc/passwd"),
		"device":           link(tar.TypeChar, nameSecrets, ""),
		"blobs is no file": tarOf(t, map[string]string{nameBlobs: "x"}),
	} {
		root := t.TempDir()
		if _, err := (backup.Restore{Layout: layout}).From(t.Context(), "-", in, filepath.Join(root, "a/data")); !errors.Is(err, backup.ErrBadBackup) {
			t.Errorf("%s: %v", name, err)
		}
		if got := files(t, root); len(got) > 0 {
			t.Errorf("%s: files %v", name, got)
		}
	}
}

// While a server writes and deletes, a backup is good whenever it is made. It lacks no blobs
// but those of accounts that were deleted after the copy of the database and before
// the blobs were looked through for the last time.
func TestBackupWhileWriting(t *testing.T) {
	root := t.TempDir()
	w := open(t, filepath.Join(root, "data"), options{})
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
		m, err := (backup.Backup{Layout: layout, Files: secretFiles, Verify: verify(&report)}).ToDir(t.Context(), w.Source, filepath.Join(root, "backup"))
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
