//go:build unix

package lease_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/lease"
	"github.com/pdskit/pdskit/storage/sqlite"
)

const processFile, processName = "PDSKIT_TEST_LEASE_FILE", "PDSKIT_TEST_LEASE_NAME"

// holder is a process that wants the lease.
type holder struct {
	*exec.Cmd
	lines chan string
}

func startHolder(t *testing.T, file, name string) *holder {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{exec.Command(exe, "-test.run=^TestProcesses$"), make(chan string, 1000)}
	h.Env = append(os.Environ(), processFile+"="+file, processName+"="+name)
	h.Stderr = os.Stderr
	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.Process.Kill()
		_ = h.Wait()
	})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			h.lines <- lines.Text()
		}
		close(h.lines)
	}()
	return h
}

// says waits until the process says something that begins so.
func (h *holder) says(t *testing.T, want string) string {
	t.Helper()
	timeout := time.After(time.Minute)
	var others []string
	for {
		select {
		case line, ok := <-h.lines:
			if !ok {
				t.Fatalf("the process has ended, without %q: %q", want, others[max(0, len(others)-5):])
			}
			others = append(others, line)
			if strings.HasPrefix(line, want) {
				return line
			}
		case <-timeout:
			t.Fatalf("the process does not say %q", want)
		}
	}
}

// pausable is a KV in a file that nothing is locked in while the process is stopped.
type pausable struct {
	file string
	mu   sync.Mutex
	db   *sqlite.DB
}

func (k *pausable) open(t *testing.T) {
	db, err := sqlite.Open(t.Context(), k.file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k.db = db
}

func (k *pausable) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.db.Store().KV.Read(ctx, fn)
}

func (k *pausable) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.db.Store().KV.Write(ctx, fn)
}

// stop stops the process until it is told to go on.
func (k *pausable) stop(t *testing.T) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.db.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("stops")
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	k.open(t)
}

// hold writes under the lease, as fast as it can, until the process is killed. The one with the name
// "two" stops itself after a while.
func hold(t *testing.T, file, name string) {
	kv := &pausable{file: file}
	kv.open(t)
	l, err := lease.New(lease.Config{KV: kv, Name: "work", Holder: name, Term: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Run(t.Context(), func(_ context.Context, h *lease.Held) error {
		// The context is left out on purpose: only the token keeps the process from writing.
		for n := 0; ; n++ {
			err := kv.Write(t.Context(), func(tx storage.KVTx) error {
				if err := h.Check(t.Context(), tx); err != nil {
					return err
				}
				return tx.Set(t.Context(), "work", fmt.Appendf(nil, "%d %s", h.Token(), name), time.Time{})
			})
			if errors.Is(err, lease.ErrLost) {
				fmt.Println("lost", h.Token())
				return nil
			} else if err != nil {
				t.Fatal(err)
			}
			if n%20 == 0 {
				fmt.Println("wrote", h.Token())
			}
			if n == 40 && name == "two" {
				kv.stop(t)
			}
		}
	})
}

// Three processes share a database: one is killed, one is stopped for longer than its lease and
// then goes on writing where it was.
func TestProcesses(t *testing.T) {
	if file := os.Getenv(processFile); file != "" {
		hold(t, file, os.Getenv(processName))
		return
	}
	file := filepath.Join(t.TempDir(), "lease.sqlite")
	db, err := sqlite.Open(t.Context(), file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	one := startHolder(t, file, "one")
	one.says(t, "wrote 1")
	two := startHolder(t, file, "two")
	if err := one.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	two.says(t, "wrote 2")
	two.says(t, "stops")
	three := startHolder(t, file, "three")
	three.says(t, "wrote 3")
	if err := two.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	two.says(t, "lost 2")
	three.says(t, "wrote 3")
	var text string
	err = db.Store().KV.Read(t.Context(), func(r storage.KVReader) error {
		v, err := r.Get(t.Context(), "work")
		text = string(v)
		return err
	})
	if err != nil || text != "3 three" {
		t.Errorf("%q %v", text, err)
	}
}
