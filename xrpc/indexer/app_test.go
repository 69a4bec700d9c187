package indexer_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

// app is an application with an index.
type app struct {
	*world
	db   *sql.DB
	sink *sqlindex.Sink
	ix   *indexer.Indexer

	amu    sync.Mutex
	faults []string
	refuse func(op *indexer.Op) error
	log    bytes.Buffer
	stop   func()
}

const appTables = `
CREATE TABLE IF NOT EXISTS row (uri TEXT PRIMARY KEY, did TEXT NOT NULL, path TEXT NOT NULL, cid TEXT NOT NULL, live BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS effect (n BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS told (did TEXT NOT NULL, state TEXT NOT NULL, active BOOLEAN NOT NULL, status TEXT NOT NULL, host TEXT NOT NULL, handle TEXT NOT NULL);`

func openDB(t testing.TB, dir string) *sql.DB {
	testenv.NotOnJS(t, "SQLite has no files")
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "index.sqlite")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range strings.Split(appTables, ";") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func (w *world) app(dir string, scope indexer.Scope, sources ...indexer.Source) *app {
	w.Helper()
	a := &app{world: w, db: openDB(w, dir)}
	a.sink = &sqlindex.Sink{DB: a.db, OnRecord: a.record, OnAccount: a.account}
	w.ok(a.sink.Create(context.Background()))
	a.ix = &indexer.Indexer{Sources: sources, Scope: scope, Sink: a.sink, Identity: w, Handles: true, HTTP: w.client(), Hosts: w.client(),
		Log: slog.New(slog.NewTextHandler(a, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	w.Cleanup(func() {
		a.halt()
		a.sink.Close()
		a.db.Close()
		if os.Getenv("PDSKIT_LOG") != "" {
			w.Log(a.log.String())
		}
	})
	return a
}

// Write takes the log.
func (a *app) Write(b []byte) (int, error) {
	a.amu.Lock()
	defer a.amu.Unlock()
	return a.log.Write(b)
}

func (w *world) client() *http.Client {
	if w.net == nil {
		return &http.Client{Transport: &http.Transport{}}
	}
	return w.net.Client()
}

func (a *app) wrong(format string, args ...any) {
	a.amu.Lock()
	defer a.amu.Unlock()
	if len(a.faults) < 20 {
		a.faults = append(a.faults, fmt.Sprintf(format, args...))
	}
}

// record carries out an operation, and checks that it leads from what there is to something else.
func (a *app) record(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
	a.amu.Lock()
	refuse := a.refuse
	a.amu.Unlock()
	if refuse != nil {
		if err := refuse(op); err != nil {
			return err
		}
	}
	fault, err := applyRow(ctx, tx, op)
	if fault != "" {
		a.wrong("%s", fault)
	}
	return err
}

// applyRow carries out an operation on the tables of the application.
func applyRow(ctx context.Context, tx *sql.Tx, op *indexer.Op) (fault string, err error) {
	var have string
	err = tx.QueryRowContext(ctx, "SELECT cid FROM row WHERE uri = ?", op.URI()).Scan(&have)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	want := ""
	if op.Prev.Defined() {
		want = op.Prev.String()
	}
	if have != want || op.Prev == op.CID {
		fault = fmt.Sprintf("%s of %s at %s (live: %v) follows %q; there is %q", op.Action, op.URI(), op.Rev, op.Live, want, have)
	}
	if op.Action == commit.Delete {
		_, err = tx.ExecContext(ctx, "DELETE FROM row WHERE uri = ?", op.URI())
	} else {
		if op.CID != data.CID(op.Record) {
			fault = "the record of " + op.URI() + " is another one"
		}
		_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?, ?)", op.URI(), string(op.DID), op.Path(), op.CID.String(), op.Live)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO effect VALUES (1)")
	}
	return fault, err
}

func (a *app) account(ctx context.Context, tx *sql.Tx, acct *indexer.Account) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO told VALUES (?, ?, ?, ?, ?, ?)", string(acct.DID), string(acct.State), acct.Active, acct.Status, acct.Host, string(acct.Handle))
	return err
}

// start runs the indexer.
func (a *app) start() *app {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.ix.Run(ctx); !errors.Is(err, context.Canceled) {
			a.wrong("Run: %v", err)
		}
	}()
	a.stop = func() { cancel(); <-done }
	return a
}

func (a *app) halt() {
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
}

// eventually waits until f returns nil.
func (a *app) eventually(f func() error) {
	a.Helper()
	step, limit := 10*time.Millisecond, 30*time.Second
	for start := time.Now(); ; time.Sleep(step) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			a.Fatalf("%v\n%+v\n%s", err, a.ix.Progress(), a.tail())
		}
	}
}

// progress is the indexer's when it has nothing more to do: a change is there before it is counted.
func (a *app) progress() indexer.Progress {
	synctest.Wait()
	return a.ix.Progress()
}

func (a *app) tail() string {
	a.amu.Lock()
	defer a.amu.Unlock()
	text := a.log.String()
	return text[max(0, len(text)-3000):]
}

// settle waits until all that hosts have said is done, and checks the index against them.
func (a *app) settle(has func(path string) bool, dids ...syntax.DID) {
	a.Helper()
	a.eventually(func() error {
		p := a.ix.Progress()
		for _, s := range p.Sources {
			h := a.hosts[s.Name]
			if h == nil {
				continue
			}
			if _, newest, err := h.store.Events.Bounds(context.Background()); err != nil || s.Done < newest && s.Done != 0 {
				return fmt.Errorf("%s: done to %d of %d, %v", s.Name, s.Done, newest, err)
			}
		}
		if ok, err := a.ix.Settled(context.Background()); !ok {
			return fmt.Errorf("not settled, %v", err)
		}
		return a.compare(has, dids...)
	})
	a.check()
}

// check fails the test if something was wrong.
func (a *app) check() {
	a.Helper()
	a.amu.Lock()
	defer a.amu.Unlock()
	for _, f := range a.faults {
		a.Error(f)
	}
	a.faults = nil
}

// rows are those of an account, by path.
func (a *app) rows(did syntax.DID) map[string]string {
	a.Helper()
	m := make(map[string]string)
	rows, err := a.db.Query("SELECT path, cid FROM row WHERE did = ?", string(did))
	a.ok(err)
	defer rows.Close()
	for rows.Next() {
		var path, c string
		a.ok(rows.Scan(&path, &c))
		m[path] = c
	}
	a.ok(rows.Err())
	return m
}

// truth are the records that an account's host has.
func (w *world) truth(did syntax.DID, has func(string) bool) (map[string]string, storage.Head) {
	w.mu.Lock()
	doc := w.docs[did]
	w.mu.Unlock()
	m := make(map[string]string)
	if doc == nil {
		return m, storage.Head{}
	}
	url, _ := doc.PDS()
	h := w.hosts[url]
	var head storage.Head
	if err := h.repo.View(context.Background(), did, func(r storage.Reader) error {
		head = r.Head()
		for rec, err := range r.Records(context.Background(), storage.Range{}) {
			if err != nil {
				return err
			}
			if has == nil || has(rec.Path) {
				m[rec.Path] = rec.CID.String()
			}
		}
		return nil
	}); err != nil && !errors.Is(err, repo.ErrRepoNotFound) {
		w.Fatal(err)
	}
	return m, head
}

// compare compares the index with the repositories.
func (a *app) compare(has func(string) bool, dids ...syntax.DID) error {
	for _, did := range dids {
		want, head := a.truth(did, has)
		if got := a.rows(did); !equal(got, want) {
			return fmt.Errorf("%s has %d rows, not %d: %s", did, len(got), len(want), differ(got, want))
		}
		entries, err := a.sink.Records(context.Background(), did, "", 1<<30)
		if err != nil {
			return err
		}
		got := make(map[string]string)
		for _, e := range entries {
			got[e.Key] = e.Value.String()
		}
		if !equal(got, want) {
			return fmt.Errorf("the sink has other records of %s", did)
		}
		acct, err := a.ix.Account(context.Background(), did)
		if err != nil {
			return err
		}
		if head.Rev != "" && (acct.Rev != head.Rev || acct.Data != head.Data || acct.State != indexer.Synchronized) {
			return fmt.Errorf("%s is %s at %s, not at %s", did, acct.State, acct.Rev, head.Rev)
		}
	}
	return nil
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func differ(got, want map[string]string) string {
	var list []string
	for k := range got {
		if want[k] != got[k] {
			list = append(list, k)
		}
	}
	for k := range want {
		if got[k] == "" {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return fmt.Sprint(list[:min(len(list), 8)])
}

// effects is how many operations were carried out.
func (a *app) effects() (n int) {
	a.Helper()
	a.ok(a.db.QueryRow("SELECT count(*) FROM effect").Scan(&n))
	return n
}

// want waits for an account to be so.
func (a *app) want(did syntax.DID, what string, f func(indexer.Account) bool) {
	a.Helper()
	a.eventually(func() error {
		acct, err := a.ix.Account(context.Background(), did)
		if err == nil && !f(acct) {
			err = fmt.Errorf("%s is not %s: %+v", did, what, acct)
		}
		return err
	})
}

type sqlTx = sql.Tx
