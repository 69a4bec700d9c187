package storagetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// processFlaw tells the writing processes what is wrong with their store.
const processFlaw = "PDSKIT_STORAGETEST_PROCESS_FLAW"

// TestProcesses is also what the writing processes run.
func TestProcesses(t *testing.T) {
	b := Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db, err := sqlite.Open(tb.Context(), filepath.Join(dir, "test.sqlite"), sqlite.Config{})
		if err != nil {
			tb.Fatal(err)
		}
		s := db.Store()
		if os.Getenv(processFlaw) != "" {
			s.Repos = hookRepos{Repos: s.Repos, apply: overwrite(s.Repos)}
		}
		return s, db.Close
	}}
	if os.Getenv(processDir) != "" {
		RunProcesses(t, b, 0)
		return
	}
	for _, flaw := range []string{"", "overwrites"} {
		t.Setenv(processFlaw, flaw)
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			processes(r, b, 60)
		}()
		<-done
		if flaw == "" && r.Failed() {
			t.Errorf("a store without flaws: %s", strings.Join(r.log, "\n"))
		} else if flaw != "" && !r.Failed() {
			t.Errorf("RunProcesses does not notice that a store %s", flaw)
		}
	}
}

// overwrite is an Apply that, when it has lost a race, does as if it had not.
func overwrite(repos storage.Repos) func(context.Context, syntax.DID, *storage.Change) (int64, error) {
	return func(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error) {
		for {
			if seq, err = repos.Apply(ctx, did, c); !errors.Is(err, storage.ErrConflict) {
				return seq, err
			}
			if c.Prev, err = repos.Head(ctx, did); err != nil {
				return 0, err
			}
		}
	}
}
