package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// The check of failing disks passes a store that keeps its old state, and notices
// what others do.
func TestDiskFaults(t *testing.T) {
	type apply = func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error)
	for flaw, failed := range map[string]func(err error, next apply, ctx context.Context, did syntax.DID, c *storage.Change) (int64, error){
		"": func(err error, _ apply, _ context.Context, _ syntax.DID, _ *storage.Change) (int64, error) {
			return 0, err
		},
		"is silent about room": func(err error, _ apply, _ context.Context, _ syntax.DID, _ *storage.Change) (int64, error) {
			return 0, err
		},
		"swallows errors": func(error, apply, context.Context, syntax.DID, *storage.Change) (int64, error) {
			return 1, nil
		},
		"says that a race was lost": func(err error, _ apply, _ context.Context, _ syntax.DID, _ *storage.Change) (int64, error) {
			return 0, fmt.Errorf("%w: %w", storage.ErrConflict, err)
		},
		"leaves half a step": func(err error, next apply, ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
			half := *c
			half.Events = nil
			_, applyErr := next(ctx, did, &half)
			return 0, errors.Join(err, applyErr)
		},
		"never recovers": func(err error, _ apply, _ context.Context, _ syntax.DID, c *storage.Change) (int64, error) {
			c.Prev.Rev += "x"
			return 0, err
		},
	} {
		var fault func() error
		b := keptMemory(func(s storage.Store, _ int) storage.Store {
			repos := s.Repos
			s.Repos = &hookRepos{Repos: repos, apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
				for range 3 { // calls to the system
					if fault == nil {
						break
					}
					if err := fault(); err != nil {
						if flaw != "is silent about room" && errors.Is(err, syscall.ENOSPC) {
							err = fmt.Errorf("%w: %w", storage.ErrFull, err)
						}
						return failed(err, repos.Apply, ctx, did, c)
					}
				}
				return repos.Apply(ctx, did, c)
			}}
			return s
		})
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			diskFaults(r, b, func(f func() error) { fault = f })
		}()
		<-done
		if flaw == "" && r.Failed() {
			t.Errorf("a store without flaws: %s", strings.Join(r.log, "\n"))
		} else if flaw != "" && !r.Failed() {
			t.Errorf("RunDiskFaults does not notice that a store %s", flaw)
		} else if flaw != "" {
			t.Logf("%s: %s", flaw, cut(r.log[0]))
		}
	}
}
