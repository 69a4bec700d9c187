// Package check checks, in a directory of agents, the two guarantees of the example:
//
//   - no task is lost: each has an accepted result, or something is pending that leads to one;
//   - no task has its effect twice: each has at most one accepted result, and the counts in the
//     agents' memories match their repositories.
//
// It also checks their foundations: every repository is sound and signed with the key of its
// author's DID document, blobs have their bytes, memories can be decrypted, the relay agrees with
// the repositories, no job is left in an outbox, and the index equals a new one.
package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/agents/internal/agent"
	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
)

// Report is what was found.
type Report struct {
	Agents, Tasks, Done, Failed int
	Messages, Observations      int
	Dead                        int // jobs that were given up
	// Problems break one of the promises. There are none in a directory whose process was killed,
	// at whatever moment.
	Problems []string
	// Pending is what was not finished when the process ended. It goes on when it is started again.
	Pending []string
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *Report) pending(format string, args ...any) {
	r.Pending = append(r.Pending, fmt.Sprintf(format, args...))
}

// Dir checks a directory that no process has open. Opening it completes transactions that were
// interrupted between two files; nothing else is changed.
func Dir(ctx context.Context, dir string) (*Report, error) {
	if _, err := os.Stat(filepath.Join(dir, "master.key")); err != nil {
		return nil, fmt.Errorf("no agents there: %w", err)
	}
	h, err := host.Open(ctx, host.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	c := &checker{Report: new(Report), h: h, agents: make(map[syntax.DID]*contents), jobs: make(map[string]bool), results: make(map[string]int)}
	for _, part := range []func(context.Context) error{c.repositories, c.queue, c.read, c.tasks, c.memories, c.relay} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return c.Report, c.index(ctx, dir)
}

// checker is a check that is under way.
type checker struct {
	*Report
	h       *host.Host
	agents  map[syntax.DID]*contents
	jobs    map[string]bool // tasks, by address, that have a job: in the queue or an outbox; true: a dead one
	results map[string]int  // how many results there are for a task
}

// repositories checks trees, signatures, records, blobs and the log.
func (c *checker) repositories(ctx context.Context) error {
	resolver := c.h.Resolver()
	r, err := check.Checker{Store: c.h.Store(), Key: func(ctx context.Context, did syntax.DID) (*crypto.PublicKey, error) {
		doc, err := resolver.ResolveDID(ctx, did)
		if err != nil {
			return nil, err
		}
		return doc.SigningKey()
	}}.Run(ctx, check.Options{})
	if err != nil {
		return err
	}
	for _, p := range r.Problems {
		c.problem("%s", p)
	}
	c.Agents = r.Accounts
	return nil
}

// queue notes the jobs, and finds those that are in an outbox.
func (c *checker) queue(ctx context.Context) error {
	for e, err := range c.h.Queue.Entries(ctx) {
		if err != nil {
			return err
		}
		j, err := agent.ParseJob(e.Body)
		if err != nil {
			c.problem("the job %s: %v", e.ID, err)
			continue
		}
		dead := e.State == "dead"
		c.jobs[string(j.Task.URI)] = dead
		if dead {
			c.Dead++
		} else {
			c.pending("a job is in the queue, %s: %s", e.State, j.Task.URI)
		}
	}
	return nil
}

// relay compares the heads that the relay has with those of the repositories.
func (c *checker) relay(ctx context.Context) error {
	list, err := c.h.Relay.Differ(ctx)
	for _, did := range list {
		c.pending("the relay has not the last commit of %s", did)
	}
	return err
}

// index compares the index with one that is made from the repositories now.
func (c *checker) index(ctx context.Context, dir string) error {
	temp, err := os.MkdirTemp(dir, "check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	kept, err := index.Open(ctx, filepath.Join(dir, "index.sqlite"))
	if err != nil {
		return err
	}
	defer kept.Close()
	fresh, err := index.Open(ctx, filepath.Join(temp, "index.sqlite"))
	if err != nil {
		return err
	}
	defer fresh.Close()
	for did := range c.agents {
		err := c.h.Repos.View(ctx, did, func(r storage.Reader) error { return fresh.Load(ctx, did, r) })
		if err != nil {
			return err
		}
	}
	problems, err := kept.Check(ctx)
	for _, p := range problems {
		c.problem("the search: %s", p)
	}
	if err != nil {
		return err
	}
	seq, err := kept.Seq(ctx)
	if err != nil {
		return err
	}
	if _, newest, err := c.h.Relay.Log().Bounds(ctx); err != nil || seq < newest || len(c.Pending) > 0 {
		if seq < newest {
			c.pending("the index has not carried out everything in the relay's log")
		}
		return err // what is behind need not be equal
	}
	rows := make(map[string]int)
	err = errors.Join(kept.Dump(ctx, func(row string) { rows[row]++ }), fresh.Dump(ctx, func(row string) { rows[row]-- }))
	for row, n := range rows {
		switch {
		case n > 0:
			c.problem("the index has, and the repositories do not: %s", row)
		case n < 0:
			c.problem("the index has not, and the repositories do: %s", row)
		}
	}
	return err
}

// key is the address of a task.
func key(r lex.Ref) string { return string(r.URI) }
