package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

// smallDisk is a folder with a file system of its own that has room for so many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		t.Skipf("this test needs to mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk leaves no room on a disk, until the file that it returns is removed.
func fillDisk(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "filler")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, syscall.ENOSPC) {
			return file
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// health asks a server until it answers with a status, and returns what it says.
func health(t *testing.T, p *process, want int) (body string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		resp, err := http.Get(p.url + "/xrpc/_health")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if body = string(text); resp.StatusCode == want {
			return body
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("health: %s", body)
	return ""
}

// A server whose disk is full says so wherever one looks, loses nothing, and goes on when there is
// room.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, 24<<20)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	data := filepath.Join(dir, "data")
	p := startWith(t, data, log)
	o := newOperator(t, data, p.port())
	alice := p.register("alice")
	health(t, p, 200)
	filler := fillDisk(t, dir)
	written, failed := 0, 0
	for failed < 3 && written < 10_000 {
		switch err := alice.note(strings.Repeat("a long note ", 2000)); {
		case err == nil:
			written++
		case errors.Is(err, &xrpc.Error{Status: 503, Name: "NotEnoughResources"}):
			failed++
		default:
			t.Fatal(err)
		}
	}
	if body := health(t, p, 503); !strings.Contains(body, "The disk is full") {
		t.Error(body)
	}
	o.fails(1, "The disk is full", "health")
	if err := alice.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader(strings.Repeat("blob", 1<<16)), nil); !errors.Is(err, &xrpc.Error{Status: 503, Name: "NotEnoughResources"}) {
		t.Error(err)
	}
	text := readFile(t, log.Name())
	if strings.Count(text, "the disk is full") < 4 || strings.Contains(text, "disk I/O error") {
		t.Errorf("the log does not say what is wrong:\n%s", text)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	health(t, p, 200)
	if err := alice.note("with room again"); err != nil {
		t.Error(err)
	}
	p.interrupt()
	var r checkReport
	if o.ok(&r, "check"); r.Records != written+1 || r.Found != 0 {
		t.Errorf("%d records were written: %+v", written+1, r)
	}
}

// A backup for which there is no room fails, says so, and leaves the older one, wherever the room
// ends.
func TestBackupToAFullDisk(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	alice := p.register("alice")
	alice.aBlob(t, "a first blob")
	p.interrupt()
	o := newOperator(t, dir)
	disk := smallDisk(t, 2<<20)
	backup := filepath.Join(disk, "backup")
	o.ok(nil, "backup", backup)
	p = start(t, dir, p.port())
	for i := range 40 {
		alice.aBlob(t, strings.Repeat(fmt.Sprint(i), 40<<10))
	}
	p.interrupt()
	before := blobFiles(t, backup)
	o.fails(1, "no space left on device", "backup", "-keep", "5", backup)
	filler := fillDisk(t, disk)
	o.fails(1, "no space left on device", "backup", "-keep", "5", backup)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	newOperator(t, restored).fails(0, "All is well", "restore", backup)
	for _, file := range before {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	o.fails(1, "no space left on device", "backup", "-tar", filepath.Join(disk, "pds.tar"))
	if left, _ := filepath.Glob(filepath.Join(disk, "pds.tar*")); len(left) > 0 {
		t.Errorf("%q", left)
	}
}
