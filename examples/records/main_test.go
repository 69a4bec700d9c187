package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []string{"1 go", "2 go", "1 database, 2 go"} {
		if got := run(t.Context(), dir, "https://example.com", []string{"go", "go", "database"}[i]); got != want {
			t.Errorf("run %d: %q, want %q", i, got, want)
		}
	}
	func() {
		defer func() {
			if err := recover(); err == nil || !strings.Contains(fmt.Sprint(err), "Record/url") {
				t.Errorf("a record that does not conform to the schema: %v", err)
			}
		}()
		run(t.Context(), dir, "no address", "go")
	}()
	if got := run(t.Context(), dir, "https://example.com", "go"); got != "1 database, 3 go" {
		t.Errorf("after a record that was refused: %q", got)
	}
}

// TestLines holds the program to its size: what is code, without imports.
func TestLines(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "\n)\n") // of the imports
	n := 0
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	if n > 90 {
		t.Errorf("the program has %d lines of code, more than 90", n)
	}
}

// change opens the host in dir for a while.
func change(t *testing.T, dir string, fn func(ctx context.Context, host *repo.Host, store storage.Store) error) {
	t.Helper()
	db := must(sqlite.Open(t.Context(), filepath.Join(dir, "repositories.sqlite"), sqlite.Config{}))
	defer db.Close()
	key := signingKey(filepath.Join(dir, "signing.key"))
	host := repo.NewHost(repo.Config{
		Store:  db.Store(),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	if err := fn(t.Context(), host, db.Store()); err != nil {
		t.Fatal(err)
	}
}

func TestTrimmedLog(t *testing.T) {
	dir := t.TempDir()
	run(t.Context(), dir, "https://example.com", "a")
	run(t.Context(), dir, "https://example.com", "b")
	change(t, dir, func(ctx context.Context, host *repo.Host, store storage.Store) error {
		tag := must(data.Encode(map[string]any{"$type": string(collection), "url": "https://example.com", "tag": "c"}))
		w := repo.Write{Action: repo.Create, Collection: collection, RKey: host.NextRecordKey(), Record: tag}
		must(host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{w}}))
		return store.Events.Trim(ctx, time.Now().Add(time.Hour))
	})
	if got := run(t.Context(), dir, "https://example.com", "b"); got != "1 a, 2 b, 1 c" {
		t.Errorf("after the log was trimmed: %q", got)
	}
}

// killedDir is the environment variable that tells a process where to keep the index, and killedAt
// the step at which it is to die.
const killedDir, killedAt = "RECORDS_TEST_KILLED_DIR", "RECORDS_TEST_KILLED_AT"

// TestKilled kills a process that keeps the index between each step and its commit, and after it.
// Each step is noted in the same transaction, so one that came twice, or not at all, would show.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		keepUntilKilled(t, dir, os.Getenv(killedAt))
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	change(t, dir, func(ctx context.Context, host *repo.Host, _ storage.Store) error {
		for i := range 3 {
			must(host.Create(ctx, account(i), repo.Batch{}))
		}
		return nil
	})
	writes := 0
	write := func() {
		change(t, dir, func(ctx context.Context, host *repo.Host, _ storage.Store) error {
			record := must(data.Encode(map[string]any{"$type": string(collection), "url": "https://example.com", "tag": fmt.Sprint("tag", writes%4)}))
			w := repo.Write{Action: repo.Put, Collection: collection, RKey: syntax.RecordKey(fmt.Sprint(writes % 7)), Record: record}
			_, err := host.Apply(ctx, account(writes%3), repo.Batch{Writes: []repo.Write{w}})
			writes++
			return err
		})
	}
	kill := func(at string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, exe, "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir, killedAt+"="+at)
		out, err := cmd.CombinedOutput()
		if err == nil || ctx.Err() != nil || strings.Contains(string(out), "FAIL") || strings.Contains(string(out), "panic") {
			t.Fatalf("killed %s: %v\n%s", at, err, out)
		}
	}
	const filled = 3 // steps, one for each account
	kill("before 0") // the first step, which is not stored
	kill("before 1") // the second
	kill("before 1")
	kill("after 0") // the third, which is
	for range 6 {
		write()
		kill("before 0")
	}
	kill("before 2")
	kill("after 1")
	kill("before 1")
	kill("after 0")

	index := must(sql.Open("sqlite3", filepath.Join(dir, "index.sqlite")))
	defer index.Close()
	steps := must(text[string](t.Context(), index, "SELECT count(*) FROM steps"))
	if steps != fmt.Sprint(filled+writes) {
		t.Errorf("%s steps were stored, for %d accounts and %d writes", steps, filled, writes)
	}
	for tag, n := range map[string]int{"tag0": 2, "tag1": 2, "tag2": 1, "tag3": 1} {
		got := must(text[string](t.Context(), index, "SELECT count(*) FROM bookmarks WHERE tag = ?", tag))
		if got != fmt.Sprint(n) {
			t.Errorf("%s: %s, want %d", tag, got, n)
		}
	}
}

func account(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:%d.example", i)) }

// keepUntilKilled keeps the index, and ends the process before or after a commit.
func keepUntilKilled(t *testing.T, dir, at string) {
	var when string
	var n int
	must(fmt.Sscan(at, &when, &n))
	die := func(now string) {
		if now != when {
			return
		}
		if n--; n < 0 {
			check(must(os.FindProcess(os.Getpid())).Kill())
			select {} // until it is dead
		}
	}
	db := must(sqlite.Open(t.Context(), filepath.Join(dir, "repositories.sqlite"), sqlite.Config{}))
	setup := must(sql.Open("sqlite3", filepath.Join(dir, "index.sqlite")))
	must(setup.Exec(tables + `
		CREATE TABLE IF NOT EXISTS steps (position TEXT PRIMARY KEY);
		CREATE TRIGGER IF NOT EXISTS noted AFTER INSERT ON progress WHEN new.about = ''
			BEGIN INSERT INTO steps VALUES (new.value); END;`))
	check(setup.Close())
	index := must(driver.Open(filepath.Join(dir, "index.sqlite"), func(c *sqlite3.Conn) error {
		stepped := false
		c.UpdateHook(func(_ sqlite3.AuthorizerActionCode, _, table string, _ int64) { stepped = stepped || table == "steps" })
		c.CommitHook(func() bool {
			if stepped {
				die("before")
			}
			stepped = false
			return true
		})
		return nil
	}))
	keep(t.Context(), index, db.Store(), func(*follow.Step) bool {
		die("after")
		return false
	})
}
