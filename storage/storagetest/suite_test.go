package storagetest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// keptMemory is a backend like one on disk: what is opened on a directory, or a
// copy of it, is the same memory store. wrap, if not nil, changes each handle; it
// is told how many were opened before.
func keptMemory(wrap func(s storage.Store, opened int) storage.Store) Backend {
	var mu sync.Mutex
	stores := map[string]storage.Store{}
	opened := 0
	return Backend{Buffers: true, Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		mu.Lock()
		defer mu.Unlock()
		name := filepath.Join(dir, "name")
		id, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			id = fmt.Append(nil, len(stores))
			stores[string(id)] = memory.New(memory.Config{})
			err = os.WriteFile(name, id, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
		s := stores[string(id)]
		if wrap != nil {
			s = wrap(s, opened)
		}
		opened++
		return s, func() error { return nil }
	}}
}

func TestMemoryPasses(t *testing.T) { Run(t, keptMemory(nil)) }

// recorder is a testing.TB whose failure is what is wanted.
type recorder struct {
	testing.TB
	mu      sync.Mutex
	failed  bool
	skipped bool
	log     []string
}

func (r *recorder) fail(args string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.log = append(r.log, args)
}

func (r *recorder) Errorf(format string, args ...any) { r.fail(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.fail(fmt.Sprint(args...)) }
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Helper()                           {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// Skip leaves the law out, as some do with -short.
func (r *recorder) Skip(...any) {
	r.mu.Lock()
	r.skipped = true
	r.mu.Unlock()
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.fail(fmt.Sprint(args...))
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// fails runs a check and returns what it complains of, and whether it left itself out.
func fails(t *testing.T, c check, b Backend) (log []string, skipped bool) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.law(newEnv(r, b, 300*time.Millisecond))
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log, r.skipped
}

// Every law has a mutant that breaks it, and the law's check fails on it.
func TestMutants(t *testing.T) {
	caught := map[string]bool{}
	list := mutants()
	for _, m := range list {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			for _, law := range m.laws {
				found := false
				for _, c := range allChecks() {
					if c.name != law && (!strings.HasSuffix(law, "/") || !strings.HasPrefix(c.name, law)) {
						continue
					}
					found = true
					if log, skipped := fails(t, c, keptMemory(m.wrap)); skipped {
						caught[c.name] = true
						t.Logf("%s is left out by -short", c.name)
					} else if len(log) > 0 {
						caught[c.name] = true
						t.Logf("%s: %s", c.name, log[0])
					} else if c.name == law {
						t.Errorf("check %s does not notice that the backend %s", c.name, m.name)
					}
				}
				if !found {
					t.Errorf("there is no check %s", law)
				}
			}
		})
	}
	for _, c := range allChecks() {
		if !caught[c.name] {
			t.Errorf("no mutant breaks %s", c.name)
		}
	}
}

func blobCID(content string) cid.Cid { return dag.Sum(dag.Raw, []byte(content)) }

func fromCID(key string) cid.Cid {
	c, _ := cid.Cast([]byte(key))
	return c
}
