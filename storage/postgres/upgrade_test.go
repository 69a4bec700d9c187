//go:build unix

package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
)

// Nodes are upgraded one after the other: a step that older ones can live with is made while they run,
// and they start on it. One that they cannot live with is refused while one of them runs, by its name,
// and refuses them when it has been made.
func TestRollingUpgrade(t *testing.T) {
	ctx, url := t.Context(), pgtest.URL(t)
	cfg := Config{Schema: "upgrade_" + strings.ToLower(rand.Text()), Name: "the old node", Poll: 50 * time.Millisecond}
	write := func(db *DB) error {
		return db.Store().KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, "k", []byte("v"), time.Time{}) })
	}
	old, err := Open(ctx, url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { old.Close() }()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(ctx, "SET search_path = "+pgIdentifier(cfg.Schema)); err != nil {
		t.Fatal(err)
	}
	next := &DB{cfg: cfg}
	steps, need := slices.Clone(versions[:]), slices.Clone(needs[:])
	known := len(steps)

	// The node is known before the next program looks.
	joined := func() bool { return next.olderNodes(ctx, c, known+1, known+1) != nil }
	for begin := time.Now(); !joined(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatal("the node does not join")
		}
	}
	steps, need = append(steps, "CREATE TABLE gentle (a bigint)"), append(need, 0)
	if err := next.migrate(ctx, c, steps, need); err != nil {
		t.Fatalf("a step that the node can live with: %v", err)
	}
	if err := write(old); err != nil {
		t.Errorf("the node, after it: %v", err)
	}
	second, err := Open(ctx, url, cfg)
	if err != nil {
		t.Fatalf("another old node, after it: %v", err)
	}
	if err := errors.Join(write(second), second.Close()); err != nil {
		t.Error(err)
	}

	steps, need = append(steps, "DROP TABLE gentle"), append(need, known+2)
	err = next.migrate(ctx, c, steps, need)
	var running *NodesError
	if !errors.As(err, &running) || !strings.Contains(err.Error(), "the old node") || running.Version != known+2 {
		t.Fatalf("a step that the node cannot live with: %v", err)
	}
	if have, _, err := schemaVersion(ctx, c, cfg.Schema); have != known+1 || err != nil {
		t.Errorf("version %d, %v", have, err)
	}
	if err := write(old); err != nil {
		t.Errorf("the node, after it was refused: %v", err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if err = next.migrate(ctx, c, steps, need); err == nil {
			break
		}
		if !errors.As(err, &running) || time.Since(begin) > time.Minute {
			t.Fatalf("after the node has ended: %v", err)
		}
	}
	var newer *VersionError
	if _, err := Open(ctx, url, cfg); !errors.As(err, &newer) {
		t.Errorf("an old node starts on it: %v", err)
	}
}

// A node that was cut off while the schema was migrated refuses to go on.
func TestNodeMissesUpgrade(t *testing.T) {
	ctx, url := t.Context(), pgtest.URL(t)
	cfg := Config{Schema: "upgrade_" + strings.ToLower(rand.Text()), Poll: 50 * time.Millisecond}
	db, err := Open(ctx, url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(ctx, "UPDATE "+pgIdentifier(cfg.Schema)+".version SET version = version + 1, oldest = version + 1"); err != nil {
		t.Fatal(err)
	}
	cut := "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::bigint::oid"
	for begin := time.Now(); db.useless() == nil; time.Sleep(10 * time.Millisecond) {
		if _, err := c.Exec(ctx, cut, int64(uint32(db.nodeKey()))); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("the node does not notice")
		}
	}
	var newer *VersionError
	err = db.Store().KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, "k", nil, time.Time{}) })
	if !errors.As(err, &newer) {
		t.Errorf("a write: %v", err)
	}
}
