//go:build unix

package main_test

import (
	"context"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// query runs a statement on a server, until it is true.
func query(t *testing.T, url, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var yes bool
		if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if yes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", sql)
		}
	}
}

// noteNumber writes a record, and returns the number of the event that tells of it.
func (u *user) noteNumber(t *testing.T, p *process, text string) int64 {
	t.Helper()
	var out struct{ Commit struct{ Rev syntax.TID } }
	u.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": u.DID, "collection": "com.example.note", "record": map[string]any{"text": text}}, &out)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	zero := int64(0)
	c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &zero}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != commit.KindCommit {
			continue
		}
		if m, err := commit.DecodeEvent(f.Payload); err != nil {
			t.Fatal(err)
		} else if m.Rev == out.Commit.Rev {
			return f.Seq
		}
	}
	t.Fatal("the stream has ended")
	return 0
}

// The database is brought to a moment, from a base backup and the archived log, and the bucket stays as it
// is: what the moment had is there, with the blob of a record that was deleted since; the rest is gone; and
// numbers of events go on beyond those that were served before. The commands are those of the guide.
func TestPointInTimeRestore(t *testing.T) {
	archive := pgtest.StartArchived(t)
	bucket := bucketEnv(t, s3test.Start(t))
	dir := filepath.Join(t.TempDir(), "data")
	env := func(url string) []string { return append([]string{"PDS_DATABASE_URL=" + url, "PDS_PORT=0"}, bucket...) }

	p := start(t, dir, env(archive.URL())...)
	archive.Backup(t)
	alice := p.register("alice")
	picture, err := alice.upload(t, "image/png", picture)
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.refer(t, picture); err != nil {
		t.Fatal(err)
	}
	if err := alice.note("before"); err != nil {
		t.Fatal(err)
	}
	moment := time.Now().Add(10 * time.Millisecond)
	time.Sleep(time.Until(moment.Add(10 * time.Millisecond))) // what follows is later
	alice.call(t, "com.atproto.repo.deleteRecord", map[string]any{"repo": alice.DID, "collection": "app.bsky.actor.profile", "rkey": "self"}, nil)
	p.register("bob")
	served := alice.noteNumber(t, p, "after")
	p.interrupt()
	query(t, archive.URL(), "SELECT pg_switch_wal() IS NOT NULL")
	query(t, archive.URL(), "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver")
	archive.Kill()

	restored := archive.Restore(t, moment)
	query(t, restored.URL(), "SELECT NOT pg_is_in_recovery()")
	o := newOperator(t, dir, env(restored.URL())...)
	o.fails(0, "All is well", "check")
	o.fails(0, "", "resync")
	p = start(t, dir, env(restored.URL())...)
	if alice, err = p.login(t, alice.Handle, "password of alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.login(t, "bob.test", "password of bob"); err == nil {
		t.Error("an account of later is there")
	}
	if status, body := alice.getBlob(t, p, picture, ""); status != 200 || len(body) == 0 {
		t.Errorf("the blob: status %d, %d bytes", status, len(body))
	}
	var records struct {
		Records []struct{ Value struct{ Text string } }
	}
	if err := alice.Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {string(alice.DID)}, "collection": {"com.example.note"}}, &records); err != nil {
		t.Fatal(err)
	}
	if len(records.Records) != 1 || records.Records[0].Value.Text != "before" {
		t.Errorf("%+v", records)
	}
	if last := alice.noteNumber(t, p, "after the restore"); last <= served {
		t.Errorf("the newest event has the number %d, and %d was served before", last, served)
	}
	o.fails(0, "All is well", "check")
}
