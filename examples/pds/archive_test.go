package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
)

// An account is exported while the server runs, in each form, and brought back after an app has
// deleted what was in it.
func TestAccountExportImport(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "data")
	p := start(t, dir)
	o := newOperator(t, dir, p.port(), "PDS_CLOCK_CHECK=false")
	alice, bob := p.register("alice"), p.register("bob")
	for i := range 3 {
		alice.aBlob(t, fmt.Sprint("a blob ", i))
	}
	if err := bob.note("bob's own"); err != nil {
		t.Fatal(err)
	}
	file, folder := filepath.Join(root, "alice.tar"), filepath.Join(root, "alice")
	var m struct {
		DID     string
		Records int
		Blobs   []any
	}
	if o.ok(&m, "account", "export", "alice.test", file); m.DID != string(alice.DID) || m.Records != 3 || len(m.Blobs) != 3 {
		t.Errorf("%+v", m)
	}
	o.ok(nil, "account", "export", "-dir", string(alice.DID), folder)
	o.fails(1, "something already", "account", "export", "alice.test", file)
	o.fails(2, "does not fit", "account", "export", "-dir", "alice.test", "-")
	o.fails(1, "nobody.test", "account", "export", "nobody.test", filepath.Join(root, "x"))
	stdout, stderr, code := o.run("account", "export", "alice.test", "-")
	if streamed := write(t, stdout); code != 0 || len(stdout) < 1000 {
		t.Fatal(code, stderr)
	} else if err := os.Rename(streamed, filepath.Join(root, "streamed.tar")); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	o.fails(1, "in use", "account", "import", file)

	for _, from := range []string{file, folder, filepath.Join(root, "streamed.tar")} {
		alice.deleteNotes(t)
		if err := alice.note("spam"); err != nil {
			t.Fatal(err)
		}
		p.interrupt()
		var back struct {
			Rev          string
			MissingBlobs int
		}
		if o.ok(&back, "account", "import", from); back.Rev == "" || back.MissingBlobs != 0 {
			t.Errorf("%s: %+v", from, back)
		}
		var r checkReport
		if o.ok(&r, "check"); r.Records != 4 || r.Blobs != 3 || r.MissingBlobs != 0 || r.Found != 0 {
			t.Errorf("%s: %+v", from, r)
		}
		p = start(t, dir, p.port())
	}

	// A blob that is gone is put back, and while it is gone, an export says so.
	p.interrupt()
	blobs := blobFiles(t, dir)
	if err := os.Remove(blobs[0]); err != nil {
		t.Fatal(err)
	}
	o.fails(3, "1 blobs that records refer to", "account", "export", "alice.test", filepath.Join(root, "less.tar"))
	o.fails(0, "1 blobs were put back", "account", "import", file)
	o.fails(0, "", "check")

	// Nothing of a file that was changed, or is another's, gets in.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.fails(1, "not a good archive", "account", "import", write(t, strings.Replace(string(text), "a blob 1", "a blob X", 1)))
	o.fails(1, "not a good archive", "account", "import", write(t, string(text[:len(text)/2])))
}

// deleteNotes deletes what is in the account.
func (u *user) deleteNotes(t *testing.T) {
	t.Helper()
	var list struct{ Records []struct{ URI string } }
	if err := u.Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {string(u.DID)}, "collection": {"com.example.note"}}, &list); err != nil || len(list.Records) == 0 {
		t.Fatal(len(list.Records), err)
	}
	for _, r := range list.Records {
		u.call(t, "com.atproto.repo.deleteRecord", map[string]any{"repo": u.DID, "collection": "com.example.note", "rkey": r.URI[strings.LastIndex(r.URI, "/")+1:]}, nil)
	}
}

// A process that makes backups one after another ends well when it is told to, and the next one waits
// until a backup is due.
func TestBackupEvery(t *testing.T) {
	root := t.TempDir()
	dir, backups := filepath.Join(root, "data"), filepath.Join(root, "backups")
	p := start(t, dir)
	p.register("alice").aBlob(t, "a blob")
	o := newOperator(t, dir)
	o.fails(2, "at least a minute", "backup", "-every", "1s", backups)
	o.fails(2, "standard output", "backup", "-every", "1h", "-tar", "-")
	said := func(want string) {
		t.Helper()
		bin := program(t)
		r, w := io.Pipe()
		cmd := exec.Command(bin, "backup", "-every", "24h", backups)
		cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = o.env, root, w, w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- cmd.Wait()
			w.Close()
		}()
		kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		defer kill.Stop()
		line, err := bufio.NewReader(r).ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("%q, %v", line, err)
		}
		go io.Copy(io.Discard, r)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("it does not end well: %v", err)
		}
	}
	said("Backed up")
	said("the next one is due in 2")
	if list, _ := filepath.Glob(filepath.Join(backups, "generations", "2*")); len(list) != 1 {
		t.Errorf("%q", list)
	}
	p.interrupt()
	newOperator(t, filepath.Join(root, "restored")).fails(0, "All is well", "restore", "-no-resync", backups)
}

// A backup that is encrypted to a recipient is restored with the identity, and by nothing else; a trial
// of it leaves nothing behind.
func TestEncryptedBackup(t *testing.T) {
	root := t.TempDir()
	dir, file, temp := filepath.Join(root, "data"), filepath.Join(root, "pds.tar.age"), filepath.Join(root, "temp")
	p := start(t, dir)
	p.register("alice").aBlob(t, "a blob with words in it")
	o := newOperator(t, dir)
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	others, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key, wrong := write(t, mine.String()+"\n"), write(t, "# another\n"+others.String()+"\n")
	to := mine.Recipient().String()
	o.fails(2, "-to-age is for -tar", "backup", "-to-age", to, filepath.Join(root, "directory"))
	o.fails(2, "age recipient", "backup", "-to-age", "age1x", "-tar", file)
	o.fails(1, "another file", "backup", "-to-age", to, "-tar", write(t, "something of mine"))
	o.ok(nil, "backup", "-to-age", to, "-tar", file)
	o.ok(nil, "backup", "-to-age", to, "-tar", file) // in its place
	streamed, stderr, code := o.run("backup", "-to-age", to, "-tar", "-")
	if code != 0 {
		t.Fatal(stderr)
	}
	text := readFile(t, file)
	for _, s := range []string{text, streamed} {
		if !strings.HasPrefix(s, "age-encryption.org/v1\n") || strings.Contains(s, "a blob with words") || strings.Contains(s, "secrets.json") {
			t.Error("the backup is not encrypted")
		}
	}
	plain := filepath.Join(root, "plain")
	o.ok(nil, "backup", plain)
	p.interrupt()

	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	o.in = streamed
	for _, from := range []string{file, "-"} {
		var out struct{ Check checkReport }
		if o.ok(&out, "verify-backup", "-temp", temp, "-identity", key, from); out.Check.Records != 1 || out.Check.Blobs != 1 || out.Check.Found != 0 {
			t.Errorf("%s: %+v", from, out)
		}
	}
	o.fails(0, "can be restored", "verify-backup", "-temp", temp, plain)
	o.fails(2, "-identity FILE", "verify-backup", "-temp", temp, file)
	o.fails(2, "encrypted to others", "verify-backup", "-temp", temp, "-identity", wrong, file)
	o.fails(2, "no age identity", "verify-backup", "-temp", temp, "-identity", write(t, "x"), file)
	for what, damaged := range map[string]string{"cut off": text[:len(text)-1], "half": text[:len(text)/2], "changed": text[:len(text)/2] + "x" + text[len(text)/2+1:]} {
		o.fails(1, "bad backup", "verify-backup", "-temp", temp, "-identity", key, write(t, damaged))
		t.Log(what)
	}
	blob := blobFiles(t, plain)[0]
	if err := os.WriteFile(blob, []byte("a blob with WORDS in it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, code := o.run("verify-backup", "-temp", temp, plain); code == 0 {
		t.Error("a damaged backup passes")
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	restored := filepath.Join(root, "restored")
	newOperator(t, restored).fails(0, "All is well", "restore", "-no-resync", "-identity", key, file)
}
