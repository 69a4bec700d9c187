//go:build !js

package sqlindex_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// databases runs a test over each kind of database.
func databases(t *testing.T, f func(t *testing.T, s *sqlindex.Sink)) {
	t.Run("sqlite", func(t *testing.T) {
		db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "index.sqlite")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		f(t, &sqlindex.Sink{DB: db})
	})
	t.Run("postgres", func(t *testing.T) {
		db, err := sql.Open("pgx", pgtest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(8)
		name := fmt.Sprintf("sqlindex_%d", time.Now().UnixNano())
		if _, err := db.Exec("CREATE SCHEMA " + name); err != nil {
			t.Fatal(err)
		}
		defer db.Exec("DROP SCHEMA " + name + " CASCADE")
		db.Close()
		if db, err = sql.Open("pgx", withSearchPath(pgtest.URL(t), name)); err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		f(t, &sqlindex.Sink{DB: db, Postgres: true})
	})
}

func cidOf(t *testing.T, text string) (b []byte) {
	b, err := data.Encode(map[string]any{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSink holds a sink against what package indexer expects of one.
func TestSink(t *testing.T) {
	databases(t, func(t *testing.T, s *sqlindex.Sink) {
		ctx := t.Context()
		var told []string
		refuse := false
		s.OnRecord = func(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
			if refuse {
				return errors.New("refused")
			}
			return nil
		}
		s.OnAccount = func(_ context.Context, _ *sql.Tx, a *indexer.Account) error {
			told = append(told, string(a.DID)+" "+string(a.State))
			return nil
		}
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(s.Create(ctx))
		ok(s.Create(ctx)) // again, as at every start
		defer s.Close()
		now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
		const did syntax.DID = "did:web:alice.example"
		a, err := s.Account(ctx, did)
		ok(err)
		if a.Version != 0 || a.DID != did {
			t.Errorf("%+v", a)
		}
		full := indexer.Account{
			DID: did, Version: 1, Active: true, Status: "", Host: "https://pds.example.com", Handle: "alice.example", State: indexer.Pending,
			Rev: "3k2la4bsk2c2x", Data: data.CID(cidOf(t, "root")), Filter: "*", Tracked: true, Signaled: true, Due: now, Read: now.Add(-time.Hour), Tries: 3, Error: "why",
		}
		op := func(action commit.Action, path, text string) indexer.Op {
			o := indexer.Op{DID: did, Action: action}
			o.Collection, o.RKey, err = syntax.ParsePath(path)
			ok(err)
			if action != commit.Delete {
				o.Record = cidOf(t, text)
				o.CID = data.CID(o.Record)
			}
			return o
		}
		var ops []indexer.Op
		for i := range 200 {
			ops = append(ops, op(commit.Create, fmt.Sprintf("com.example.note/%03d", i), fmt.Sprint(i)))
		}
		ops = append(ops, op(commit.Delete, "com.example.note/007", ""), op(commit.Update, "com.example.note/008", "new"),
			op(commit.Create, "com.example.Note/1", "x"), op(commit.Create, "com.example.note/~", "x"), op(commit.Create, "com.example.note/A", "x"))
		change := &indexer.Change{Account: full, Ops: ops, AccountChanged: true}
		ok(s.Apply(ctx, &indexer.Transaction{Changes: []*indexer.Change{change}, Positions: map[string]string{"one": "5"}}))
		if a, err = s.Account(ctx, did); err != nil || a != full {
			t.Errorf("%+v\n%+v\n%v", a, full, err)
		}
		list, err := s.Records(ctx, did, "", 1000)
		ok(err)
		if len(list) != 202 || !slices.IsSortedFunc(list, func(a, b2 entry) int { return compare(a.Key, b2.Key) }) {
			t.Errorf("%d records", len(list))
		}
		if page, err := s.Records(ctx, did, list[100].Key, 3); err != nil || len(page) != 3 || page[0] != list[101] {
			t.Errorf("%v, %v", page, err)
		}
		if at, err := s.Position(ctx, "one"); at != "5" || err != nil {
			t.Error(at, err)
		}
		if at, err := s.Position(ctx, "two"); at != "" || err != nil {
			t.Error(at, err)
		}

		// Another version: nothing of the transaction happens.
		next := full
		next.Version, next.Due = 2, time.Time{}
		for _, before := range []int64{0, 2} {
			err := s.Apply(ctx, &indexer.Transaction{Changes: []*indexer.Change{{Before: before, Account: next}}, Positions: map[string]string{"one": "6"}})
			if !errors.Is(err, indexer.ErrConflict) {
				t.Errorf("version %d: %v", before, err)
			}
		}
		refuse = true
		err = s.Apply(ctx, &indexer.Transaction{Changes: []*indexer.Change{
			{Account: indexer.Account{DID: "did:web:bob.example", State: indexer.Pending}}, {Before: 1, Account: next, Ops: ops[:1]}}})
		if err == nil || errors.Is(err, indexer.ErrConflict) {
			t.Error(err)
		}
		refuse = false
		if b, err := s.Account(ctx, "did:web:bob.example"); b.Version != 0 || err != nil {
			t.Errorf("%+v, %v", b, err)
		}
		if at, _ := s.Position(ctx, "one"); at != "5" {
			t.Error(at)
		}

		// Due accounts of several hosts.
		for i := range 40 {
			host := []string{"", "https://one.example", "https://two.example", "https://three.example"}[i%4]
			ok(s.Apply(ctx, &indexer.Transaction{Changes: []*indexer.Change{{Account: indexer.Account{
				DID: syntax.DID(fmt.Sprintf("did:web:%02d.example", i)), Host: host, State: indexer.Pending, Due: now.Add(time.Duration(i) * time.Second)}}}}))
		}
		due, err := s.Due(ctx, now.Add(20*time.Second), []string{"https://two.example", "https://pds.example.com"}, 2, 100)
		ok(err)
		count := make(map[string]int)
		for _, a := range due {
			count[a.Host]++
		}
		if len(count) != 3 || count[""] != 6 || count["https://one.example"] != 2 || count["https://three.example"] != 2 {
			t.Errorf("%v", count)
		}
		if due, err := s.Due(ctx, now.Add(time.Hour), nil, 2, 3); len(due) != 3 || err != nil {
			t.Error(len(due), err)
		}
		page, err := s.Accounts(ctx, "did:web:03.example", 2)
		if err != nil || len(page) != 2 || page[0].DID != "did:web:04.example" || page[1].DID != "did:web:05.example" {
			t.Errorf("%v, %v", page, err)
		}

		// The account is removed.
		var deletes []indexer.Op
		for _, e := range list {
			deletes = append(deletes, op(commit.Delete, e.Key, ""))
		}
		next.State = indexer.Removed
		ok(s.Apply(ctx, &indexer.Transaction{Changes: []*indexer.Change{{Before: 1, Account: next, Ops: deletes, AccountChanged: true}}}))
		if a, err := s.Account(ctx, did); a.Version != 0 || err != nil {
			t.Errorf("%+v, %v", a, err)
		}
		if list, err := s.Records(ctx, did, "", 10); len(list) != 0 || err != nil {
			t.Error(list, err)
		}
		if !slices.Equal(told, []string{string(did) + " pending", string(did) + " removed"}) {
			t.Errorf("%q", told)
		}
	})
}

type entry = mst.Entry

func compare(a, b string) int { return strings.Compare(a, b) }

// withSearchPath is a connection string whose tables are in a schema.
func withSearchPath(text, schema string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return text + " search_path=" + schema
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}
