package plctest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/powerloss"
)

func TestFileSurvivesRestart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plc.jsonl")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := Config{File: name, Now: func() time.Time { at = at.Add(time.Minute); return at }}
	d := open(t, cfg)
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	submit(t, d, did, next(t, g, "https://thief.example.com", key(t, 1)))
	other, og := genesis(t, 2)
	submit(t, d, other, og)
	submit(t, d, did, next(t, g, "https://safe.example.com", key(t, 0)))
	want := request(d, "GET", "/export", "").Body.String()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Submit(did, g); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if w := request(d, "GET", "/_health", ""); w.Code != 503 {
		t.Error(w.Code)
	}
	at = at.Add(-24 * time.Hour) // the clock was set back
	d = open(t, cfg)
	if diff := cmp.Diff(want, request(d, "GET", "/export", "").Body.String()); diff != "" {
		t.Error(diff)
	}
	submit(t, d, did, next(t, d.Log(did).Last(), "https://later.example.com", key(t, 1)))
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// What a process wrote, and had not flushed when it died, is answered from the next start on: so a
// power failure does not take it away any more.
func TestPowerFailureAfterDeath(t *testing.T) {
	before, dir := filepath.Join(t.TempDir(), "plc.jsonl"), t.TempDir()
	d := open(t, Config{File: before})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	content, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := powerloss.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	flushed := func(path string) {
		if err := disk.Synced(path); err != nil {
			t.Error(err)
		}
	}
	durablefile.Watch.Store(&flushed)
	defer durablefile.Watch.Store(nil)
	name := filepath.Join(dir, "plc.jsonl")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if open(t, Config{File: name}).Log(did) == nil {
		t.Fatal("the operation is not there")
	}
	for seed := range uint64(10) {
		to := t.TempDir()
		if err := disk.Crash(to, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		if open(t, Config{File: filepath.Join(to, "plc.jsonl")}).Log(did) == nil {
			t.Errorf("seed %d: the operation is not there after a power failure", seed)
		}
	}
}

// A crash may leave any prefix of the file behind: the whole lines of it count.
func TestFileCutAnywhere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plc.jsonl")
	d := open(t, Config{File: name})
	for i := range 2 {
		did, g := genesis(t, i)
		submit(t, d, did, g)
	}
	d.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	newDID, newOp := genesis(t, 7)
	for n := 0; n <= len(whole); n += 37 {
		for _, tail := range []string{"", "\x00\x00\x00", "\x00\x00\x00\n"} {
			if tail != "" && (n == 0 || whole[n-1] == '\n') {
				continue
			}
			if err := os.WriteFile(name, append(whole[:n:n], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := New(Config{File: name})
			if err != nil {
				t.Fatalf("%d bytes and %q: %v", n, tail, err)
			}
			lines := bytes.Count(whole[:n], []byte{'\n'})
			if len(d.order) != lines {
				t.Errorf("%d bytes: %d operations, want %d", n, len(d.order), lines)
			}
			submit(t, d, newDID, newOp)
			d.Close()
			if d, err = New(Config{File: name}); err != nil {
				t.Fatalf("after writing on: %v", err)
			}
			if len(d.order) != lines+1 {
				t.Errorf("%d bytes: %d operations after writing on", n, len(d.order))
			}
			d.Close()
		}
	}
}

func TestFileDamaged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plc.jsonl")
	d := open(t, Config{File: name})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	submit(t, d, did, next(t, g, "https://x.example.com", key(t, 1)))
	d.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte{'\n'})
	for what, content := range map[string][]byte{
		"first line damaged":       bytes.Replace(whole, []byte(`{`), []byte(`[`), 1),
		"content changed":          bytes.Replace(whole, []byte("pds.example.com"), []byte("evi.example.com"), 1),
		"first line missing":       lines[1],
		"lines out of order":       bytes.Join([][]byte{lines[1], lines[0]}, nil),
		"line twice":               bytes.Join([][]byte{lines[0], lines[0]}, nil),
		"line without an entry":    []byte("{}\n"),
		"line without an end":      append(bytes.Repeat([]byte(" "), maxLine+1), lines[0]...),
		"a file of something else": []byte("hello\nworld\n"),
		"a line of something else": []byte("hello\n"),
		"a word of something else": []byte("hello"),
		"JSON of something else":   []byte(`{"a":1}`),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := New(Config{File: name}); err == nil {
			d.Close()
			t.Errorf("%s: no error", what)
		}
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, content) {
			t.Errorf("%s: the file was changed", what)
		}
	}
	if _, err := New(Config{File: filepath.Join(name, "x")}); err == nil {
		t.Error("a file below a file")
	}
}

// failingFile fails in the ways that are asked for.
type failingFile struct {
	*os.File
	short, sync, truncate bool
}

var errDisk = errors.New("disk is full")

func (f *failingFile) Write(b []byte) (int, error) {
	if !f.short {
		return f.File.Write(b)
	}
	n, _ := f.File.Write(b[:len(b)/2])
	return n, errDisk
}

func (f *failingFile) Sync() error {
	if f.sync {
		f.sync = false
		return errDisk
	}
	return f.File.Sync()
}

func (f *failingFile) Truncate(n int64) error {
	if f.truncate {
		return errDisk
	}
	return f.File.Truncate(n)
}

func TestFileFailures(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fail   failingFile
		broken bool
	}{
		{"write", failingFile{short: true}, false},
		{"sync", failingFile{sync: true}, false},
		{"write and undo", failingFile{short: true, truncate: true}, true},
		{"sync and undo", failingFile{sync: true, truncate: true}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "plc.jsonl")
			d := open(t, Config{File: name})
			did, g := genesis(t, 1)
			submit(t, d, did, g)
			real := d.file.(*os.File)
			tc.fail.File = real
			d.file = &tc.fail
			op := next(t, g, "https://x.example.com", key(t, 1))
			w := request(d, "POST", "/"+string(did), asJSON(t, op))
			if w.Code != 500 || strings.Contains(w.Body.String(), "disk") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if n := d.Log(did).Len(); n != 1 {
				t.Errorf("the operation is visible: %d", n)
			}
			d.file = real
			if err := d.Submit(did, op); (err != nil) != tc.broken || tc.broken && !errors.Is(err, errDisk) {
				t.Error(err)
			}
			d.Close()
			again, err := New(Config{File: name})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if n := again.Log(did).Len(); n != 2 && !tc.broken {
				t.Errorf("%d operations after a restart", n)
			}
		})
	}
}
