//go:build unix

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/postgres"
)

// Nodes that start at the same time make one schema.
func TestOpenAtOnce(t *testing.T) {
	url := pgtest.URL(t)
	name := schema(t, url, t.TempDir())
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := postgres.Open(testContext, url, postgres.Config{Schema: name})
			if err != nil {
				t.Error(err)
				return
			}
			err = db.Store().KV.Write(testContext, func(tx storage.KVTx) error { return tx.Set(testContext, "k", nil, time.Time{}) })
			if err := errors.Join(err, db.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestNewerSchemaIsRefused(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	if err := open(t, url, dir, postgres.Config{}).Close(); err != nil {
		t.Fatal(err)
	}
	name := schema(t, url, dir)
	exec(t, url, "UPDATE "+name+".version SET version = version + 1, oldest = version + 1")
	_, err := postgres.Open(testContext, url, postgres.Config{Schema: name})
	if v := (*postgres.VersionError)(nil); !errors.As(err, &v) || v.Have != v.Known+1 {
		t.Errorf("a newer schema: %v", err)
	}
	exec(t, url, "DELETE FROM "+name+".version")
	if _, err := postgres.Open(testContext, url, postgres.Config{Schema: name}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("a schema without a version: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	url := pgtest.URL(t)
	for what, bad := range map[string]string{
		"a database that is not there": strings.Replace(url, "/postgres?", "/missing?", 1),
		"no connection string":         "postgres://%zz",
		"nobody listens":               "postgres://127.0.0.1:1/postgres?connect_timeout=1",
	} {
		begin := time.Now()
		if db, err := postgres.Open(testContext, bad, postgres.Config{Wait: time.Second}); err == nil {
			t.Errorf("%s: opened", what)
			db.Close()
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: noticed after %v", what, took)
		}
	}
}

// noticing is a context that tells when somebody begins to wait for its end.
type noticing struct {
	context.Context
	begun chan<- struct{}
}

func (n noticing) Done() <-chan struct{} {
	select {
	case n.begun <- struct{}{}:
	default:
	}
	return n.Context.Done()
}

// Methods of a closed database fail, and say why.
func TestClosed(t *testing.T) {
	db := open(t, pgtest.URL(t), t.TempDir(), postgres.Config{})
	s := db.Store()
	waiting, begun := make(chan error), make(chan struct{}, 1)
	go func() { waiting <- s.Events.Wait(noticing{testContext, begun}, 0) }()
	<-begun
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, headErr := s.Repos.Head(testContext, didOf(0))
	_, applyErr := s.Repos.Apply(testContext, didOf(0), &storage.Change{KV: []storage.KVWrite{{Key: "k", Value: []byte("v")}}})
	for what, err := range map[string]error{
		"Wait": <-waiting, "Head": headErr, "Apply": applyErr,
		"KV.Read":  s.KV.Read(testContext, func(storage.KVReader) error { return nil }),
		"KV.Write": s.KV.Write(testContext, func(storage.KVTx) error { return nil }),
		"View":     s.Repos.View(testContext, didOf(0), func(storage.Reader) error { return nil }),
		"Trim":     s.Events.Trim(testContext, time.Now()),
	} {
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The connection string asks for TLS, and whom to trust.
func TestTLS(t *testing.T) {
	server, url := pgtest.StartTLS(t)
	db, err := postgres.Open(testContext, url, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Store().KV.Write(testContext, func(tx storage.KVTx) error { return tx.Set(testContext, "k", nil, time.Time{}) })
	if err != nil {
		t.Error(err)
	}
	// Every connection of the pools is encrypted.
	if n := query(t, server.URL(), "SELECT count(*)::text FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = 'pdskit' AND NOT coalesce(s.ssl, false)"); n != "0" {
		t.Errorf("%s connections are not encrypted", n)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	for what, bad := range map[string]string{
		"another name":      strings.Replace(url, "@127.0.0.1:", "@localhost:", 1),
		"another authority": url[:strings.Index(url, "&sslrootcert=")],
	} {
		if db, err := postgres.Open(testContext, bad, postgres.Config{Wait: time.Second}); err == nil {
			t.Errorf("%s: the certificate was accepted", what)
			db.Close()
		}
	}
}

// A schema from before events had weights keeps its events, in all partitions, and goes on.
func TestSchemaWithoutWeightsIsMigrated(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	db := open(t, url, dir, postgres.Config{})
	before := storage.Change{Events: []storage.Event{{DID: didOf(1), Kind: "#identity"}, {DID: didOf(1), Kind: "#account"}}}
	first, err := db.Store().Repos.Apply(testContext, didOf(1), &before)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	name := schema(t, url, dir)
	exec(t, url, "ALTER TABLE "+name+".event DROP COLUMN weight")
	exec(t, url, "UPDATE "+name+".version SET version = 1")
	s := open(t, url, dir, postgres.Config{}).Store()
	before.Events = []storage.Event{{DID: didOf(1), Kind: "#sync", Weight: 9}}
	last, err := s.Repos.Apply(testContext, didOf(1), &before)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range replay(t, s) {
		got = append(got, fmt.Sprint(ev.Kind, ev.Seq, ev.Weight))
	}
	if want := fmt.Sprint([]string{fmt.Sprint("#identity", first-1, 1), fmt.Sprint("#account", first, 1), fmt.Sprint("#sync", last, 9)}); fmt.Sprint(got) != want {
		t.Errorf("events %v, want %v", got, want)
	}
}

// Events that take more numbers than a partition has, or than two have, find their partitions.
func TestWeightsBeyondAPartition(t *testing.T) {
	db := open(t, pgtest.URL(t), t.TempDir(), postgres.Config{Partition: 200 * time.Millisecond})
	s := db.Store()
	var c storage.Change
	for range 500 {
		c.Events = append(c.Events, storage.Event{DID: didOf(1), Kind: "#identity", Weight: storage.MaxWeight})
	}
	last := int64(0)
	for range 3 {
		if _, err := s.Repos.Apply(testContext, didOf(1), &c); err != nil {
			t.Fatal(err)
		}
	}
	for _, ev := range replay(t, s) {
		if ev.First() <= last || ev.Weight != storage.MaxWeight {
			t.Errorf("event %d of weight %d comes after %d", ev.Seq, ev.Weight, last)
		}
		last = ev.Seq
	}
}
