// Package host opens the shared parts of the agents, in one directory:
//
//	objects/        one SQLite file per agent: repository, private memory, keys (storage/durable/files)
//	shared.sqlite   the log of all commits, names of accounts, the queue of jobs
//	shared.sqlite.blobs/  their bytes
//	plc.jsonl       a did:plc directory for development (identity/plctest)
//	relay.sqlite    what the relay has received and passed on (xrpc/relay)
//	master.key      what seals all secrets in the files above (storage/sealed)
//
// Only one process may have a directory open. It may be killed at any moment: everything is
// consistent when it is opened again.
package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Name is that of the host in DID documents, and URL where it would be reached. Nothing listens
// there: the relay reads the host in the process.
const (
	Name = "agents.test"
	URL  = "https://" + Name
)

// Config configures a Host.
type Config struct {
	Dir string
	// Alarm is called when an agent's alarm is due.
	Alarm func(ctx context.Context, did syntax.DID) error
	// Lease is how long an agent may be silent about a job before another gets it. 0: 5 seconds.
	Lease time.Duration
	// Attempts is how often a job is tried. 0: 5.
	Attempts int
}

// Host has what agents share.
type Host struct {
	Repos    *repo.Host
	Accounts *account.Store
	Box      *sealed.Box // seals what only an agent may know
	PLC      *plctest.Directory
	Queue    *queue.Queue // of tasks
	Outbox   queue.Outbox
	Relay    *Relay

	db *files.DB
}

// Open opens a directory, which is made if there is none.
func Open(ctx context.Context, cfg Config) (_ *Host, err error) {
	if cfg.Lease == 0 {
		cfg.Lease = 5 * time.Second
	}
	if err := durablefile.MkdirAll(cfg.Dir); err != nil {
		return nil, err
	}
	h := new(Host)
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	// The directory's lock comes first: who does not get it has changed nothing.
	h.db, err = files.Open(ctx, cfg.Dir, durable.Config{Alarms: durable.Alarms{Call: cfg.Alarm, Timeout: 30 * time.Second}})
	if err != nil {
		return nil, err
	}
	key, err := masterKey(filepath.Join(cfg.Dir, "master.key"))
	if err != nil {
		return nil, err
	}
	if h.Box, err = sealed.New(key); err != nil {
		return nil, err
	}
	h.Accounts = account.Open(repo.Config{Store: h.Store(), TempDir: filepath.Join(cfg.Dir, "tmp")}, h.Box)
	h.Repos = h.Accounts.Host()
	if err := h.Accounts.RepairAlone(ctx); err != nil {
		return nil, err
	}
	if h.PLC, err = plctest.New(plctest.Config{File: filepath.Join(cfg.Dir, "plc.jsonl"), NoRateLimits: true}); err != nil {
		return nil, err
	}
	h.Queue, err = queue.New(queue.Config{
		KV: h.Store().KV, Name: "tasks", Lease: cfg.Lease, Attempts: cfg.Attempts, Poll: 500 * time.Millisecond,
		Backoff: func(n int) time.Duration { return time.Duration(n) * cfg.Lease / 4 },
	})
	if err != nil {
		return nil, err
	}
	h.Outbox = queue.Outbox{Store: h.Store(), Queue: h.Queue}
	h.Relay, err = openRelay(ctx, filepath.Join(cfg.Dir, "relay.sqlite"), h)
	return h, err
}

// Store is the store of the objects.
func (h *Host) Store() storage.Store { return h.db.Store() }

// Objects counts the objects that are open.
func (h *Host) Objects() durable.Stats { return h.db.Stats() }

// Run calls alarms, brings jobs from commits to the queue, and relays, until the context ends.
func (h *Host) Run(ctx context.Context, failed func(error)) {
	var running sync.WaitGroup
	for _, part := range []func(context.Context) error{h.db.Run, h.Outbox.Run, h.Relay.Run} {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := part(ctx); err != nil && ctx.Err() == nil {
					failed(err)
				}
				sleep.For(ctx, 100*time.Millisecond)
			}
		})
	}
	running.Wait()
}

// Close closes everything. Nothing may be under way.
func (h *Host) Close() error {
	var errs []error
	if h.Relay != nil {
		errs = append(errs, h.Relay.Close())
	}
	if h.PLC != nil {
		errs = append(errs, h.PLC.Close())
	}
	if h.db != nil {
		errs = append(errs, h.db.Close())
	}
	return errors.Join(errs...)
}

// Resolver resolves the agents' DIDs.
func (h *Host) Resolver() *identity.Resolver { return &identity.Resolver{PLC: h.PLC.Client()} }

// masterKey reads the key from a file, which it makes if there is none.
func masterKey(file string) ([]byte, error) {
	text, err := durablefile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, sealed.KeySize)
		rand.Read(key)
		return key, durablefile.Write(file, []byte(hex.EncodeToString(key)+"\n"))
	}
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != sealed.KeySize {
		return nil, fmt.Errorf("host: %s does not hold %d bytes in hexadecimal", file, sealed.KeySize)
	}
	return key, nil
}
