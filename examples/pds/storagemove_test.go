package main_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// TestMigrateStorage moves a server from SQLite and disk to PostgreSQL and a bucket, and back, while
// clients write records, upload blobs and refresh their sessions. Everything that was answered is
// there afterwards; sessions, apps, app passwords, invites and takedowns are what they were; a relay
// goes on with its cursor and sees every event once, under its number.
func TestMigrateStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	db, objects := pgtest.Start(t), s3test.Start(t)
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	m := &moving{t: t, dir: t.TempDir(), base: []string{"PDS_DID_PLC_URL=" + plc.URL}}
	m.p = start(t, m.dir, m.base...)
	m.base = append(m.base, m.p.port())
	o := newOperator(t, m.dir, m.base...)
	m.p.register("taken")
	o.fails(0, "", "account", "takedown", "taken.test")
	// The follower is one of active accounts. Numbers begin at the time.
	m.f = newFollower(t, m.p)
	m.f.cursor = time.Now().UnixMicro()
	m.f.plc = &identity.PLCClient{URL: plc.URL, Verify: true}
	for i := range 3 {
		m.clients = append(m.clients, newClient(m.p.register(fmt.Sprint("client", i)), uint64(i)))
	}
	alice := m.p.register("alice")
	app := m.p.letIn(t, plc.URL, alice, "atproto repo:com.example.note")
	var secret struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &secret)
	stays := func() {
		t.Helper()
		if err := app.Client().Procedure(t.Context(), "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": note, "record": map[string]any{"$type": note}}, nil); err != nil {
			t.Errorf("the app: %v", err)
		}
		if _, err := m.p.login(t, alice.Handle, secret.Password); err != nil {
			t.Errorf("the app password: %v", err)
		}
		_, err := m.p.login(t, "taken.test", "password of taken")
		fails(t, err, http.StatusUnauthorized, "AccountTakedown")
	}
	stays()

	file := filepath.Join(t.TempDir(), "new.env")
	bucket := []string{
		"PDS_DATABASE_URL=" + db.URL(), "PDS_BLOBSTORE_S3_BUCKET=" + objects.Bucket(t), "PDS_BLOBSTORE_S3_ENDPOINT=" + objects.Endpoint(), "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true",
		"PDS_BLOBSTORE_S3_ACCESS_KEY_ID=" + s3test.AccessKeyID, "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=" + s3test.SecretAccessKey,
	}
	if err := os.WriteFile(file, []byte(strings.Join(bucket, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	m.hop(0, nil, bucket, "-to", file)
	stays()
	// The old file is no target: it is put aside.
	newOperator(t, m.dir, m.env(bucket)...).fails(1, "not empty", "migrate-storage", "-to-database", "sqlite", "-to-blobs", "disk")
	old := t.TempDir()
	for _, name := range []string{"pds.sqlite", "pds.sqlite-wal", "pds.sqlite-shm", "pds.sqlite.blobs"} {
		if err := os.Rename(filepath.Join(m.dir, name), filepath.Join(old, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	m.hop(1, bucket, nil, "-to-database", "sqlite", "-to-blobs", "disk")
	stays()
	m.p.interrupt()
	var r checkReport
	if newOperator(t, m.dir, m.base...).ok(&r, "check"); r.Found != 0 {
		t.Errorf("%+v", r)
	}
}

// moving is a server that moves.
type moving struct {
	t       *testing.T
	dir     string
	base    []string
	p       *process
	f       *follower
	clients []*client
}

func (m *moving) env(more []string) []string {
	return append(m.base[:len(m.base):len(m.base)], more...)
}

// hop moves the server under load, and starts it with other variables.
func (m *moving) hop(round int, was, is []string, to ...string) {
	t := m.t
	t.Helper()
	command := func(more ...string) []string { return append(append([]string{"migrate-storage"}, to...), more...) }
	o := newOperator(t, m.dir, m.env(was)...)
	from := m.f.cursor
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	live := follow(ctx, m.p, from)
	var busy sync.WaitGroup
	var answered atomic.Int64
	for _, c := range m.clients {
		busy.Go(func() { c.untilMoved(t, &answered) })
	}
	var plan struct{ Accounts, Records int64 }
	if o.ok(&plan, command("-dry-run")...); plan.Accounts < 5 {
		t.Errorf("plan %+v", plan)
	}
	o.fails(0, "Copied to", command()...)
	o.fails(0, "is being copied", "migrate-storage", "-status")
	newOperator(t, m.dir, m.env(is)...).fails(1, "not complete", "serve")
	most := answered.Load() + 30
	testenv.Until(t, "calls are answered", func() bool { return answered.Load() >= most || t.Failed() })
	o.fails(0, "verified", command("-finish")...)
	busy.Wait()
	m.p.interrupt()
	o.fails(1, "moved away", "serve")
	cancel()
	seen := <-live
	if t.Failed() {
		t.FailNow()
	}
	m.p = start(t, m.dir, m.env(is)...)
	o.fails(1, "uses the target already", command("-abort")...)
	for _, c := range m.clients {
		c.session(t, m.p)
	}
	m.f.replayed = nil
	m.catchUp()
	for i, s := range seen {
		if i >= len(m.f.replayed) || m.f.replayed[i] != s {
			t.Fatalf("event %d of %d after %d differs between before and after the move", i, len(seen), from)
		}
	}
	for _, c := range m.clients {
		c.settle(t, round, m.f.repos[c.DID])
		c.checkBlobs(t)
	}
	m.catchUp()
	for _, c := range m.clients {
		m.f.compareExport(c.user)
	}
	t.Logf("%d calls were answered while the server moved, %d events were seen", answered.Load(), len(seen))
}

// catchUp lets the follower see all that the clients have written.
func (m *moving) catchUp() {
	m.t.Helper()
	revs := map[syntax.DID]syntax.TID{}
	for _, c := range m.clients {
		c.mark(m.t)
		revs[c.DID] = latest(m.t, c.user)
	}
	m.f.until(m.p, revs)
}

// untilMoved makes calls until the server refuses them because it has moved.
func (c *client) untilMoved(t *testing.T, answered *atomic.Int64) {
	for !t.Failed() {
		time.Sleep(10 * time.Millisecond) // a load that two slow cores bear beside the move
		err := c.step()
		var e *xrpc.Error
		switch {
		case err == nil:
			c.pending = nil
			answered.Add(1)
		case errors.As(err, &e) && e.Status == http.StatusServiceUnavailable && strings.Contains(e.Message, "moved"):
			return
		default:
			t.Errorf("%s: %v", c.Handle, err)
			return
		}
	}
}
