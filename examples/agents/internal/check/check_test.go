package check

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/agent"
	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// live lets agents do some tasks in a directory, and finish.
func live(t *testing.T, dir string) {
	t.Helper()
	for _, quiet := range []bool{false, true} {
		ctx, stop := context.WithCancel(t.Context())
		var g *agent.Group
		h, err := host.Open(ctx, host.Config{Dir: dir, Lease: time.Second, Alarm: func(ctx context.Context, did syntax.DID) error { return g.Alarm(ctx, did) }})
		if err != nil {
			t.Fatal(err)
		}
		x, err := index.Open(ctx, filepath.Join(dir, "index.sqlite"))
		if err != nil {
			t.Fatal(err)
		}
		g, err = agent.New(ctx, agent.Config{Host: h, Index: x, Brain: brain.Scripted{}, Every: 20 * time.Millisecond, Quiet: quiet})
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx, func(error) {}) })
		running.Go(func() { x.Follow(ctx, h.Store().Repos, h.Relay.Log()) })
		running.Go(func() { g.Run(ctx) })
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the agents do not finish")
			}
			if quiet {
				if idle, err := g.Idle(ctx); err != nil {
					t.Fatal(err)
				} else if idle {
					break
				}
			} else if counts, err := x.Counts(ctx); err != nil {
				t.Fatal(err)
			} else if counts[index.Done] >= 12 {
				break
			}
		}
		stop()
		running.Wait()
		x.Close()
		h.Close()
	}
}

// TestChecker: the checker finds nothing in what agents have left, and each kind of damage in what
// was changed behind their backs.
func TestChecker(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	live(t, base)
	r, err := Dir(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems)+len(r.Pending) > 0 || r.Tasks < 12 || r.Messages == 0 || r.Observations == 0 {
		t.Fatalf("%+v", r)
	}
	ctx := t.Context()
	for name, c := range map[string]struct {
		change func(h *host.Host, dids []syntax.DID) error
		rows   string // of the index
		want   string
	}{
		"a lost job": {want: "is lost", change: func(h *host.Host, dids []syntax.DID) error {
			w, err := lex.Write(repo.Create, lex.TaskNSID, h.Repos.NextRecordKey(), lex.Task{Kind: "count", Text: "a", CreatedAt: lex.Now(time.Now())})
			if err == nil {
				_, err = h.Repos.Apply(ctx, dids[0], repo.Batch{Writes: []repo.Write{w}})
			}
			return err
		}},
		"an acceptance that is gone": {want: "acceptances", change: func(h *host.Host, dids []syntax.DID) error {
			return drop(ctx, h, dids, lex.AcceptanceNSID)
		}},
		"a result that is gone":  {want: "result that is not there", change: func(h *host.Host, dids []syntax.DID) error { return drop(ctx, h, dids, lex.ResultNSID) }},
		"a task that is gone":    {want: "task that is not there", change: func(h *host.Host, dids []syntax.DID) error { return drop(ctx, h, dids, lex.TaskNSID) }},
		"a message that is gone": {want: "messages", change: func(h *host.Host, dids []syntax.DID) error { return drop(ctx, h, dids, lex.MessageNSID) }},
		"a letter that is not what was written": {want: "has not kept", change: func(h *host.Host, dids []syntax.DID) error {
			return each(ctx, h, dids, "agent/heard/", func(s *repo.Step, did syntax.DID, p storage.KVPair) {
				s.Set(p.Key, h.Box.Seal(string(did)+"/"+p.Key, []byte("forged")), time.Time{})
			})
		}},
		"a memory of somebody else": {want: "the memory of", change: func(h *host.Host, dids []syntax.DID) error {
			return each(ctx, h, dids, "agent/state", func(s *repo.Step, _ syntax.DID, p storage.KVPair) {
				s.Set(p.Key, h.Box.Seal("did:plc:other/"+p.Key, []byte("{}")), time.Time{})
			})
		}},
		"a row of the index":      {want: "the index has not", rows: "DELETE FROM records WHERE uri = (SELECT min(uri) FROM records)"},
		"a state in the index":    {want: "the index has, and", rows: "UPDATE tasks SET state = 'open' WHERE uri = (SELECT min(uri) FROM tasks)"},
		"a document in the index": {want: "the search", rows: "DELETE FROM search_doc WHERE doc = (SELECT min(doc) FROM search_doc)"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			if c.rows != "" {
				alter(t, filepath.Join(dir, "index.sqlite"), c.rows)
			} else {
				h, err := host.Open(ctx, host.Config{Dir: dir})
				if err != nil {
					t.Fatal(err)
				}
				var dids []syntax.DID
				for info, err := range h.Repos.Repos(ctx, "") {
					if err != nil {
						t.Fatal(err)
					}
					dids = append(dids, info.DID)
				}
				if err := c.change(h, dids); err != nil {
					t.Fatal(err)
				}
				if err := h.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Dir(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(r.Problems, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("the problems are %q, pending %q", all, r.Pending)
			}
		})
	}
}

// drop deletes a record of a collection, of the first account that has one.
func drop(ctx context.Context, h *host.Host, dids []syntax.DID, collection syntax.NSID) error {
	for _, did := range dids {
		page, err := h.Repos.List(ctx, did, collection, repo.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		if len(page) > 0 {
			_, rkey, _ := strings.Cut(page[0].Path, "/")
			_, err := h.Repos.Apply(ctx, did, repo.Batch{Writes: []repo.Write{{Action: repo.Delete, Collection: collection, RKey: syntax.RecordKey(rkey)}}})
			return err
		}
	}
	return os.ErrNotExist
}

// each changes all keys with a prefix.
func each(ctx context.Context, h *host.Host, dids []syntax.DID, prefix string, fn func(*repo.Step, syntax.DID, storage.KVPair)) error {
	for _, did := range dids {
		_, err := h.Repos.Step(ctx, did, func(s *repo.Step) error {
			for p, err := range s.Keys(ctx, storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				p.Value = bytes.Clone(p.Value)
				fn(s, did, p)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// alter changes the rows of an index.
func alter(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestInUse: a directory that a process has open is not checked, and not disturbed.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	h, err := host.Open(t.Context(), host.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := Dir(t.Context(), dir); err == nil {
		t.Error("a directory that is in use is checked")
	}
	if _, err := Dir(t.Context(), t.TempDir()); err == nil {
		t.Error("an empty directory is checked")
	}
}
