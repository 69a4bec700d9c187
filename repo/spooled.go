package repo

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// readAhead is how much of an export waits in memory for a slow reader before
// the rest goes to a temporary file.
const readAhead = 512 << 10

// loadTree makes sure that an export finds its tree in memory, before it takes its turn.
func (h *Host) loadTree(ctx context.Context, did syntax.DID, since syntax.TID) (state, error) {
	head, err := h.Head(ctx, did)
	if err != nil || since != "" && since == head.Rev {
		return state{}, err
	}
	if st, ok := h.cache.get(did); ok {
		return st, nil
	}
	return h.build(ctx, did)
}

// maxScans bounds how many exports read their snapshots at the same time. Those that have read
// them and wait for their clients do not count.
func maxScans() int { return max(4, runtime.GOMAXPROCS(0)) }

// patience is how long an export for which there is no room in the spool holds its snapshot for a
// slow reader; one that waits for its reader in any case (Config.WaitForReaders), each time that
// the reader has to take readAhead.
const patience = 30 * time.Second

// memorySpool is the default of Config.SpoolBytes where files are in memory.
const memorySpool = 32 << 20

// spoolOf returns where a host has its temporary files.
func spoolOf(cfg *Config) *spool.Dir {
	d := &spool.Dir{Path: cfg.TempDir, Limit: max(cfg.SpoolBytes, 0)}
	if cfg.Temp != nil {
		d.Make = func(most int64) (spool.Storage, error) {
			f, err := cfg.Temp(most)
			if err == nil && f == nil {
				err = errors.New("repo: Config.Temp returned no file")
			}
			return f, err
		}
	}
	switch {
	case cfg.SpoolBytes != 0:
	case d.Memory():
		d.Limit = memorySpool
	default:
		d.Limit = 2 << 30
	}
	return d
}

// temp opens a temporary file of which the caller counts the bytes.
func (h *Host) temp(most int64) (car.TempFile, error) {
	f, err := h.spool.Open(most)
	return f, err
}

// spooled runs produce with a writer that does not wait for w, unless it has to.
func (h *Host) spooled(ctx context.Context, w io.Writer, produce func(io.Writer) error) error {
	inside := false
	enter := func() error {
		select {
		case h.scans <- struct{}{}:
			inside = true
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	leave := func() {
		if inside {
			inside = false
			<-h.scans
		}
	}
	opt := spool.Options{Dir: h.spool, Memory: readAhead, Patience: patience, Wait: h.wait}
	if h.hold != nil {
		opt.Hold = func(n int64) error { return h.hold(ctx, n) }
	}
	if h.wait {
		opt.Park = func() func() error {
			leave()
			return enter
		}
	}
	err := spool.Copy(w, opt, func(w io.Writer) error {
		if err := enter(); err != nil {
			return err
		}
		defer leave()
		return produce(w)
	})
	return roomError(err)
}
