package main_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/xrpc"
)

// The disk of the database's tables is full: writes are answered with 503, reads go on, nothing is lost that
// was answered, and all goes on when there is room.
func TestFullDiskOfPostgreSQL(t *testing.T) {
	db := pgtest.Start(t)
	disk := smallDisk(t, 48<<20)
	// The server's user must reach the folder.
	for dir := filepath.Dir(disk); strings.Contains(dir, t.Name()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	tables := filepath.Join(disk, "tables")
	err := errors.Join(os.Chmod(disk, 0o711), os.Mkdir(tables, 0o700), db.Own(tables))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"CREATE TABLESPACE small LOCATION '" + tables + "'", "ALTER ROLE postgres SET default_tablespace = small"} {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	dir, env := filepath.Join(t.TempDir(), "data"), "PDS_DATABASE_URL="+db.URL()
	p := start(t, dir, env, "PDS_LOG_LEVEL=fatal")
	o := newOperator(t, dir, env, p.port())
	alice := p.register("alice")
	health(t, p, 200)
	written, failed := 0, 0
	for ; written < 5; written++ {
		if err := alice.note(strings.Repeat("a long note ", 2000)); err != nil {
			t.Fatal(err)
		}
	}
	filler := fillDisk(t, disk)
	for failed < 5 && written < 10_000 {
		switch err := alice.note(strings.Repeat("a long note ", 2000)); {
		case err == nil:
			written++
		case errors.Is(err, &xrpc.Error{Status: 503, Name: "NotEnoughResources"}):
			failed++
		default:
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Fatal("the disk is not full")
	}
	count := func() int {
		t.Helper()
		n, cursor := 0, ""
		for {
			var page struct {
				Cursor  string
				Records []struct{ URI string }
			}
			in := url.Values{"repo": {string(alice.DID)}, "collection": {"com.example.note"}, "limit": {"100"}, "cursor": {cursor}}
			if cursor == "" {
				delete(in, "cursor")
			}
			if err := alice.Query(t.Context(), "com.atproto.repo.listRecords", in, &page); err != nil {
				t.Fatal(err)
			}
			if n += len(page.Records); page.Cursor == "" || len(page.Records) == 0 {
				return n
			}
			cursor = page.Cursor
		}
	}
	if n := count(); n != written {
		t.Errorf("%d records of %d can be read", n, written)
	}
	if body := health(t, p, 503); !strings.Contains(body, "The disk is full") {
		t.Error(body)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	health(t, p, 200)
	if err := alice.note("there is room"); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != written+1 {
		t.Errorf("%d records of %d", n, written+1)
	}
	o.fails(0, "All is well", "check")
	t.Logf("%d records were written before the disk was full", written)
}
