//go:build unix

package main_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// populate adds accounts to a directory that no server uses, all with one password.
func populate(t *testing.T, dir string, n int, s seed.Seed) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, datadir.Secrets))
	if err != nil {
		t.Fatal(err)
	}
	var secrets struct {
		MasterKey string `json:"masterKey"`
	}
	if err := json.Unmarshal(text, &secrets); err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(secrets.MasterKey)
	if err != nil {
		t.Fatal(err)
	}
	box, err := sealed.New(key)
	if err != nil {
		t.Fatal(err)
	}
	d, err := datadir.Open(t.Context(), dir, datadir.Options{Existing: true, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.Open(repo.Config{Store: d.Store}, box)
	alice, err := accounts.Account(t.Context(), "alice.test")
	if err != nil {
		t.Fatal(err)
	}
	s.Password = alice.Password
	for i := range n {
		if _, err := s.Account(t.Context(), accounts, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// measured runs a command that must succeed, and returns the most memory that it had.
func (o *operator) measured(t *testing.T, args ...string) (mb int64) {
	t.Helper()
	bin := program(t)
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Dir = o.env, t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pds %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return maxRSS(cmd.ProcessState) >> 20
}

// syncAfter waits for the #sync event of an account after a cursor, and returns its number.
func syncAfter(t *testing.T, p *process, cursor int64, did syntax.DID) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &cursor}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != "#sync" {
			continue
		}
		m, err := commit.DecodeSync(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if m.DID == did {
			return f.Seq
		}
	}
	t.Fatal("the stream ended")
	return 0
}

// TestDisaster loses a server, and restores its last backup of each kind on a new directory. All
// accounts sign in, all records and blobs are there, and a consumer that had seen more than the backup
// has gets told, under greater numbers, where the repositories stand.
//
// Each kind is a part that can be run alone; with PDSKIT_LONG, parts have 1,000 accounts and 200 MB:
//
//	PDSKIT_LONG=1 go test -run 'TestDisaster/encrypted_S3$' -v ./examples/pds
func TestDisaster(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	srv := s3test.Start(t)
	store := newBackupStore(t, srv, srv.Endpoint())
	identity, recipient := identityFile(t)
	root := t.TempDir()
	d := &disaster{dir: filepath.Join(root, "data"), accounts: 5, seed: seed.Seed{Records: 20, Blobs: 2}}
	if long() {
		d.accounts, d.seed = 1000, seed.Seed{Records: 35, Blobs: 3, Size: 1000}
	}
	p := start(t, d.dir)
	d.env = append(store.env, p.port(), "PDS_CLOCK_CHECK=false", "PDS_RATE_LIMITS_ENABLED=false")
	p.register("alice")
	p.interrupt()
	begun := time.Now()
	populate(t, d.dir, d.accounts, d.seed)
	if info, err := os.Stat(filepath.Join(d.dir, "pds.sqlite")); err != nil {
		t.Fatal(err)
	} else {
		t.Logf("%d accounts, a database of %d MB, made in %s", d.accounts+1, info.Size()>>20, time.Since(begun).Round(time.Second))
	}
	at := "s3://" + store.bucket + "/"
	for _, k := range []struct {
		name            string
		backup, restore []string
	}{
		{"directory", []string{filepath.Join(root, "backup")}, []string{filepath.Join(root, "backup")}},
		{"tar", []string{"-tar", filepath.Join(root, "b.tar")}, []string{filepath.Join(root, "b.tar")}},
		{"encrypted tar", []string{"-to-age", recipient, "-tar", filepath.Join(root, "b.age")}, []string{"-identity", identity, filepath.Join(root, "b.age")}},
		{"S3", []string{at + "plain"}, []string{at + "plain"}},
		{"encrypted S3", []string{"-to-age", recipient, at + "secret"}, []string{"-identity", identity, at + "secret"}},
	} {
		t.Run(k.name, func(t *testing.T) { d.strike(t, filepath.Join(root, "restored"), k.backup, k.restore) })
	}
}

// disaster is a server that is lost again and again. What is in its directory stays.
type disaster struct {
	dir      string
	env      []string
	accounts int // besides alice's
	seed     seed.Seed
	blobs    int // of alice, each with a record
	notes    int // of alice
}

// strike makes a backup, loses what is written after it, and goes on with what is restored.
func (d *disaster) strike(t *testing.T, restored string, backup, restore []string) {
	p := start(t, d.dir, d.env...)
	alice, err := p.login(t, "alice.test", "password of alice")
	if err != nil {
		t.Fatal(err)
	}
	alice.aBlob(t, fmt.Sprint("a blob before backup ", d.blobs))
	d.blobs++
	begun := time.Now()
	t.Logf("backup with at most %d MB, in %s", newOperator(t, d.dir, d.env...).measured(t, append([]string{"backup"}, backup...)...), time.Since(begun).Round(time.Millisecond))
	records := d.accounts*(d.seed.Records+d.seed.Blobs) + d.blobs + d.notes
	last := alice.noteNumber(t, p, "after the backup")
	d.notes++
	p.kill()

	begun = time.Now()
	r := newOperator(t, restored, d.env...)
	t.Logf("restored with at most %d MB, in %s", r.measured(t, append([]string{"restore"}, restore...)...), time.Since(begun).Round(time.Millisecond))
	var found checkReport
	if r.ok(&found, "check"); found.Accounts != d.accounts+1 || found.Records != records || found.Blobs != d.accounts*d.seed.Blobs+d.blobs || found.MissingBlobs+found.Found != 0 {
		t.Errorf("%+v, want %d records", found, records)
	}
	p = start(t, restored, d.env...)
	back, err := p.login(t, "alice.test", "password of alice")
	if err != nil {
		t.Fatal(err)
	}
	for n := range d.accounts {
		if n%100 > 10 { // hashing passwords takes long
			continue
		}
		if _, err := p.login(t, fmt.Sprintf("user%d.test", n), "password of alice"); err != nil {
			t.Error(err)
		}
	}
	if seq := syncAfter(t, p, last, back.DID); seq <= last {
		t.Errorf("number %d after %d", seq, last)
	}
	if seq := back.noteNumber(t, p, "life goes on"); seq <= last {
		t.Errorf("number %d after %d", seq, last)
	}
	p.kill()
	if err := os.RemoveAll(restored); err != nil {
		t.Fatal(err)
	}
}
