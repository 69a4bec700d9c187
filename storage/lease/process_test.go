//go:build unix

package lease_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/lease"
	"github.com/pdskit/pdskit/storage/postgres"
)

const processSchema, processName = "PDSKIT_TEST_LEASE_SCHEMA", "PDSKIT_TEST_LEASE_NAME"

// holder is a process that wants the lease.
type holder struct {
	*exec.Cmd
	lines chan string
}

func startHolder(t *testing.T, schema, name string) *holder {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{exec.Command(exe, "-test.run=^TestProcesses$"), make(chan string, 1000)}
	h.Env = append(os.Environ(), processSchema+"="+schema, processName+"="+name)
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

// open opens the database of a test, whose sessions end soon when a process stands still.
func open(t *testing.T, schema string) storage.KV {
	t.Helper()
	db, err := postgres.Open(t.Context(), pgtest.URL(t), postgres.Config{Schema: schema, Timeout: 500 * time.Millisecond, Readers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db.Store().KV
}

// hold writes under the lease, as fast as it can, until the process is killed.
func hold(t *testing.T, schema, name string) {
	kv := open(t, schema)
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
				continue // the session has ended meanwhile
			}
			if n%20 == 0 {
				fmt.Println("wrote", h.Token())
			}
		}
	})
}

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// Three processes share a database: one is killed, one is stopped for longer than its lease and
// then goes on writing where it was.
func TestProcesses(t *testing.T) {
	if schema := os.Getenv(processSchema); schema != "" {
		hold(t, schema, os.Getenv(processName))
		return
	}
	schema := "lease_" + strings.ToLower(rand.Text())
	kv := open(t, schema)
	one := startHolder(t, schema, "one")
	one.says(t, "wrote 1")
	two := startHolder(t, schema, "two")
	if err := one.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	two.says(t, "wrote 2")
	if err := two.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	three := startHolder(t, schema, "three")
	three.says(t, "wrote 3")
	if err := two.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	two.says(t, "lost 2")
	three.says(t, "wrote 3")
	var text string
	err := kv.Read(t.Context(), func(r storage.KVReader) error {
		v, err := r.Get(t.Context(), "work")
		text = string(v)
		return err
	})
	if err != nil || text != "3 three" {
		t.Errorf("%q %v", text, err)
	}
}
