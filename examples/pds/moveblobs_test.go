package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Blobs move to another folder: the copy is made while the server runs and is killed, and finished
// when it has ended. Until then it uses the old folder, and afterwards none but the new one.
func TestMoveBlobs(t *testing.T) {
	root := t.TempDir()
	dir, disk := filepath.Join(root, "data"), filepath.Join(root, "disk", "blobs")
	p := start(t, dir)
	old, moved := newOperator(t, dir, p.port()), newOperator(t, dir, p.port(), "PDS_BLOBSTORE_DISK_LOCATION="+disk)
	alice := p.register("alice")
	for i := range 10 {
		alice.aBlob(t, fmt.Sprint("blob ", i, strings.Repeat("x", 100_000)))
	}
	bin := program(t)
	for i := range 4 {
		cmd := exec.Command(bin, "move-blobs", disk)
		cmd.Env = old.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(20+20*i)*time.Millisecond, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		alice.aBlob(t, fmt.Sprint("another blob ", i))
	}
	old.fails(0, "The server is running: stop it", "move-blobs", disk)
	old.fails(2, "one folder, or one is in the other", "move-blobs", filepath.Join(dir, "pds.sqlite.blobs", "x"))
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old.fails(1, "neither empty nor", "move-blobs", full)
	alice.aBlob(t, "the last blob")
	p.interrupt()
	moved.fails(1, "not all are there", "serve")
	old.fails(0, "All is well", "check")
	// It was killed when the old folder had its mark already, and the new one still its own.
	mark := filepath.Join(dir, "pds.sqlite.blobs", "moved-to")
	if err := os.WriteFile(mark, []byte(disk+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old.fails(1, "PDS_BLOBSTORE_DISK_LOCATION="+disk, "serve")
	moved.fails(1, "not all are there", "serve")

	var done struct {
		Finished bool
		Copied   struct{ Files, Written int }
	}
	if old.ok(&done, "move-blobs", disk); !done.Finished || done.Copied.Files != 15 || done.Copied.Written > 1 {
		t.Errorf("%+v", done)
	}
	old.fails(1, "PDS_BLOBSTORE_DISK_LOCATION="+disk, "serve")
	if err := os.RemoveAll(filepath.Join(dir, "pds.sqlite.blobs")); err != nil {
		t.Fatal(err)
	}
	var r checkReport
	if moved.ok(&r, "check"); r.Blobs != 15 || r.MissingBlobs != 0 || r.Found != 0 {
		t.Errorf("%+v", r)
	}
	p = start(t, dir, p.port(), "PDS_BLOBSTORE_DISK_LOCATION="+disk)
	var err error
	if alice, err = p.login(t, alice.Handle, "password of alice"); err != nil {
		t.Fatal(err)
	}
	alice.aBlob(t, "at the new place")
}
