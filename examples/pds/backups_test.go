package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type checkReport struct {
	Accounts, Records, Blobs, Events, MissingBlobs, Found int
}

func TestBackupRestoreCheckRotate(t *testing.T) {
	root := t.TempDir()
	dir, backup, archive := filepath.Join(root, "data"), filepath.Join(root, "backup"), filepath.Join(root, "pds.tar")
	p := start(t, dir, "PDS_JWT_SECRET=from the environment")
	o := newOperator(t, dir, p.port(), "PDS_JWT_SECRET=from the environment")
	alice := p.register("alice")
	for i := range 3 {
		if err := alice.note(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var blob struct{ Blob json.RawMessage }
	if err := alice.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader("a blob"), &blob); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}, nil)

	// All of these while the server runs.
	var r checkReport
	if o.ok(&r, "check"); r.Accounts != 1 || r.Records != 4 || r.Blobs != 1 || r.Found != 0 {
		t.Errorf("%+v", r)
	}
	if o.ok(&r, "check", "alice.test", "-fast"); r.Accounts != 1 || r.Records != 4 {
		t.Errorf("%+v", r)
	}
	o.fails(1, "in use", "rotate-keys")
	var m struct{ Blobs int }
	if o.ok(&m, "backup", backup); m.Blobs != 1 {
		t.Errorf("%+v", m)
	}
	if err := alice.note("after the first backup"); err != nil {
		t.Fatal(err)
	}
	o.ok(&m, "backup", backup)
	o.ok(&m, "backup", "-tar", archive)
	stdout, _, code := o.run("backup", "-tar", "-")
	if code != 0 {
		t.Fatal(code)
	}
	if err := alice.note("not in any backup"); err != nil {
		t.Fatal(err)
	}
	o.fails(1, "neither empty nor a backup", "backup", root)
	p.interrupt()

	// A stopped server's keys are rotated; it goes on.
	before, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sealed struct{ Sealed int }
	if o.ok(&sealed, "rotate-keys"); sealed.Sealed != 1 {
		t.Errorf("%+v", sealed)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if bytes.Equal(before, after) || bytes.Contains(after, []byte("oldMasterKeys")) {
		t.Errorf("secrets after the rotation: %s", after)
	}
	p = start(t, dir, p.port(), "PDS_JWT_SECRET=from the environment")
	if err := alice.note("after the rotation"); err != nil {
		t.Error(err)
	}
	p.interrupt()

	// Each of the backups, restored elsewhere, is the server as it was then, without the
	// environment's secret, which it brings along.
	for name, from := range map[string]string{"directory": backup, "tar": archive, "standard input": "-"} {
		restored := filepath.Join(root, "restored "+name)
		o := newOperator(t, restored, p.port())
		o.in = stdout
		var out struct{ Check checkReport }
		if o.ok(&out, "restore", from); out.Check.Records != 5 || out.Check.Blobs != 1 || out.Check.Found != 0 {
			t.Errorf("%s: %+v", name, out)
		}
		o.fails(1, "not empty", "restore", from)
		p := start(t, restored, p.port())
		if err := alice.note("after the restore"); err != nil { // with the session of before
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.login(t, "alice.test", "password of alice"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var list struct{ Records []any }
		if err := p.anonymous().Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {"alice.test"}, "collection": {"com.example.note"}}, &list); err != nil || len(list.Records) != 6 {
			t.Errorf("%s: %d records, %v", name, len(list.Records), err)
		}
		p.interrupt()
		if o.ok(&r, "check"); r.Records != 6 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	alice := p.register("alice")
	var blob struct{ Blob json.RawMessage }
	if err := alice.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader("a blob"), &blob); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}, nil)
	p.interrupt()
	files, err := filepath.Glob(filepath.Join(dir, "pds.sqlite.blobs/blobs/*/*/*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		text[0] ^= 1
		err = os.WriteFile(files[0], text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := newOperator(t, dir)
	o.fails(3, "its bytes are others", "check")
	o.fails(0, "All is well", "check", "-fast")
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	o.fails(3, "blobs that are not there: 1", "check")
	o.fails(3, "is lost", "check", "-fast")
}

// aBlob makes a record with a blob of a text.
func (u *user) aBlob(t *testing.T, text string) {
	t.Helper()
	var blob struct{ Blob json.RawMessage }
	if err := u.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader(text), &blob); err != nil {
		t.Fatal(err)
	}
	u.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": u.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}, nil)
}

// blobFiles are the files of a folder's promoted blobs.
func blobFiles(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "pds.sqlite.blobs/blobs/*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A server that has lost blobs is told so by every command, keeps them in its backups, and gets
// them back.
func TestLostBlobs(t *testing.T) {
	root := t.TempDir()
	dir, backup, empty := filepath.Join(root, "data"), filepath.Join(root, "backup"), filepath.Join(root, "empty")
	p := start(t, dir)
	alice := p.register("alice")
	for i := range 3 {
		alice.aBlob(t, fmt.Sprint("blob ", i))
	}
	o := newOperator(t, dir, "PDS_PORT=0")
	o.ok(nil, "backup", backup)
	lost := blobFiles(t, dir)[0]
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"backup", backup}, {"backup", "-keep", "7d,4w", backup}, {"backup", "-fast", backup}, {"backup", "-json", backup}} {
		o.fails(3, "has lost 1 blobs", args...)
		if n := len(blobFiles(t, backup)); n != 3 {
			t.Fatalf("%d blobs are in the backup", n)
		}
	}
	o.fails(3, "kept in the backup", "backup", backup)
	o.fails(3, "not in the backup either", "backup", filepath.Join(root, "another backup"))
	o.fails(3, filepath.Base(lost)+" is lost", "check")
	if out, _, _ := o.run("check"); strings.Contains(out, "All is well") {
		t.Error(out)
	}
	var back struct{ PutBack, Found, Blobs int }
	if o.ok(&back, "check", "-blobs-from", backup); back.PutBack != 1 || back.Found != 0 || back.Blobs != 3 {
		t.Errorf("%+v", back)
	}
	o.fails(0, "All is well", "check")
	o.ok(nil, "backup", backup)
	o.fails(2, "not the directory of a backup", "check", "-blobs-from", root)
	p.interrupt()

	// The disk of the blobs is not there.
	elsewhere := newOperator(t, dir, "PDS_PORT=0", "PDS_BLOBSTORE_DISK_LOCATION="+empty)
	elsewhere.fails(1, "is the disk mounted", "serve")
	elsewhere.fails(3, "is the disk mounted", "check")
	elsewhere.fails(3, "has lost 3 blobs", "backup", backup)
	if n := len(blobFiles(t, backup)); n != 3 {
		t.Fatalf("%d blobs are in the backup", n)
	}
	o.fails(0, "All is well", "check")

	// A backup that has lost its blobs is not restored, unless that is what is wanted.
	if err := os.RemoveAll(filepath.Join(backup, "pds.sqlite.blobs")); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(root, "restored")
	r := newOperator(t, restored, "PDS_PORT=0")
	r.fails(1, "lost a blob", "restore", backup)
	if _, err := os.Stat(restored); err == nil {
		t.Error("something was restored")
	}
	r.fails(0, "3 blobs that records refer to are not in it", "restore", "-accept-missing-blobs", backup)
	r.fails(0, "Nothing is damaged", "check")
	r.ok(nil, "backup", filepath.Join(root, "backup of the restored"))
	p = start(t, restored, p.port())
	if err := alice.note("after the restore"); err != nil {
		t.Error(err)
	}
	p.interrupt()
	// What was accepted is not lost when it comes back.
	if err := errors.Join(os.RemoveAll(filepath.Join(restored, "pds.sqlite.blobs")), os.CopyFS(filepath.Join(restored, "pds.sqlite.blobs"), os.DirFS(filepath.Join(dir, "pds.sqlite.blobs")))); err != nil {
		t.Fatal(err)
	}
	r.fails(0, "All is well", "check")
}

// A backup that is killed at any moment leaves the generations that there are, and the next one is
// made.
func TestKilledBackups(t *testing.T) {
	root := t.TempDir()
	dir, backup := filepath.Join(root, "data"), filepath.Join(root, "backup")
	p := start(t, dir)
	alice := p.register("alice")
	for i := range 20 {
		alice.aBlob(t, strings.Repeat(fmt.Sprint("blob ", i), 1000))
	}
	o := newOperator(t, dir)
	first := time.Now()
	o.ok(nil, "backup", backup)
	took := time.Since(first)
	bin := program(t)
	kills := 0
	for round := range 12 {
		alice.aBlob(t, fmt.Sprint("a later blob ", round))
		cmd := exec.Command(bin, "backup", "-keep", "100", backup)
		cmd.Env, cmd.Dir = o.env, root
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(took*time.Duration(round)/10, func() { cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			kills++
		}
		kill.Stop()
		generations, err := filepath.Glob(filepath.Join(backup, "generations", "2*"))
		if err != nil || len(generations) == 0 {
			t.Fatal(generations, err)
		}
		for i, g := range generations {
			restored := filepath.Join(root, fmt.Sprintf("restored-%d-%d", round, i))
			newOperator(t, restored).fails(0, "All is well", "restore", "-no-resync", g)
			if err := os.RemoveAll(restored); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kills == 0 {
		t.Error("no backup was killed")
	}
	var m struct{ Blobs, LostBlobs int }
	if o.ok(&m, "backup", backup); m.Blobs != 32 || m.LostBlobs != 0 || len(blobFiles(t, backup)) != 32 {
		t.Errorf("%+v, %d files", m, len(blobFiles(t, backup)))
	}
	if left, _ := filepath.Glob(filepath.Join(backup, "generations", "*")); len(left) != 1 {
		t.Errorf("%q", left)
	}
	p.interrupt()
}

// Without the keys of its accounts, a server does not start and make others.
func TestMissingKeysAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.register("alice")
	p.interrupt()
	if err := os.Remove(filepath.Join(dir, "secrets.json")); err != nil {
		t.Fatal(err)
	}
	o := newOperator(t, dir, "PDS_PORT=0")
	o.fails(1, "keys are missing", "serve")
	o.fails(1, "keys are missing", "check")
	if _, err := os.Stat(filepath.Join(dir, "secrets.json")); err == nil {
		t.Error("other keys were made")
	}
}
