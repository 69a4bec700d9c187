package pds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

const (
	// maintenance is how often the store is tidied.
	maintenance = time.Hour
	// repairs is how often changes of accounts that were interrupted are finished.
	repairs = time.Minute
	// sweepAccounts is how many accounts are looked through at a time, so that the work is bounded
	// however many there are.
	sweepAccounts = 10_000
	// unusedBlobs is how long an upload may wait for a record, and how long the
	// bytes of a blob outlive its last one.
	unusedBlobs = 24 * time.Hour
	// sweepKey holds, in the host's namespace, the account after which the next sweep begins.
	sweepKey = "maintenance/sweep"
	// foundKey holds what was found when all accounts were looked through.
	foundKey = "maintenance/found"
)

// Maintenance is the result of an examination of all accounts, which takes place every hour, or
// less often with more than 10,000 accounts.
type Maintenance struct {
	// Accounts is the number of repositories.
	Accounts int
	// Ahead is the number of repositories whose revision is so far in the future that the network
	// ignores their writes.
	Ahead int
}

// maintain tidies the store from time to time until the context ends.
func (s *Server) maintain(ctx context.Context, t term) {
	tick := time.NewTicker(maintenance)
	defer tick.Stop()
	pass := &pass{}
	for {
		if err := s.tidy(ctx, s.cfg.Now(), pass, t); err != nil && ctx.Err() == nil {
			s.log.Error("maintenance", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// repair finishes changes of accounts that could not be finished, or whose process has died, until
// the context ends. It costs as much as is pending.
func (s *Server) repair(ctx context.Context) {
	tick := time.NewTicker(repairs)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := s.Accounts.Repair(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("changes of accounts that were interrupted", "err", err)
		}
	}
}

// pass counts what is found while all accounts are looked through, in as many rounds as it takes.
type pass struct {
	complete bool // it began with the first account
	accounts int
	ahead    int
	deleted  int        // blobs
	first    syntax.DID // that is ahead
	until    time.Time  // when the last of them is accepted
	statuses account.Statuses
}

// found is what the last pass has found that was whole, as it is stored for all nodes.
type found struct {
	Version  int              `json:"version"`
	Statuses account.Statuses `json:"statuses"` // nil: there was none
	At       time.Time        `json:"at"`
}

// foundVersion is that of what is stored. What has another version is not shown.
const foundVersion = 1

// lastFound reads it.
func (s *Server) lastFound(ctx context.Context) (f found) {
	err := s.cfg.Store.KV.Read(ctx, func(r storage.KVReader) error {
		text, err := r.Get(ctx, foundKey)
		if err == nil {
			err = exactjson.UnmarshalPlain(text, &f)
		}
		return err
	})
	if err != nil || f.Version != foundVersion {
		return found{}
	}
	return f
}

func (p *pass) count(info storage.RepoInfo, now time.Time) {
	p.accounts++
	if commit.Ahead(info.Head.Rev, now, 0) == 0 {
		return
	}
	if p.ahead++; p.ahead == 1 {
		p.first = info.DID
	}
	if until := info.Head.Rev.Time().Add(-commit.DefaultDrift); until.After(p.until) {
		p.until = until
	}
}

// tidy deletes what is too old: events, uploads that nothing refers to, blobs whose records are
// gone. It does nothing while the clock is not trusted: by a clock that is ahead, all of it is too
// old. What it deletes on the word of an earlier time is too old at a later time as well, so a node
// that was paused in the midst of it does no harm when it goes on.
func (s *Server) tidy(ctx context.Context, now time.Time, p *pass, t term) error {
	if err := s.checkClock(ctx); err != nil {
		return fmt.Errorf("nothing is deleted: %w", err)
	}
	store := s.cfg.Store
	if err := store.Events.Trim(ctx, now.Add(-s.cfg.Backfill)); err != nil {
		return err
	}
	after, err := s.sweepPosition(ctx)
	if err != nil {
		return err
	}
	if after == "" {
		*p = pass{complete: true, deleted: p.deleted, statuses: account.Statuses{}}
	}
	collected, err := store.Blobs.Collect(ctx, now.Add(-unusedBlobs))
	if err != nil {
		return err
	}
	p.deleted += collected
	n, last := 0, syntax.DID("")
	for info, err := range store.Repos.List(ctx, after) {
		if err != nil {
			return err
		}
		if n == s.sweep {
			return s.setSweepPosition(ctx, last, t)
		}
		if info.Head == (storage.Head{}) {
			continue
		}
		n, last = n+1, info.DID
		p.count(info, now)
		if p.complete {
			s.statusOf(ctx, info.DID, p)
		}
		swept, err := s.Host.SweepBlobs(ctx, info.DID, now.Add(-unusedBlobs))
		if err != nil {
			return err
		}
		p.deleted += swept
	}
	if err := s.setSweepPosition(ctx, "", t); err != nil {
		return err
	}
	return s.swept(ctx, p, t)
}

// swept reports what was found in all accounts. After a restart in the midst of them it reports
// nothing, but goes on with the first accounts in the next round.
func (s *Server) swept(ctx context.Context, p *pass, t term) error {
	if !p.complete {
		return nil
	}
	if p.ahead > 0 {
		s.log.Error("the revisions of accounts lie in the future: the network ignores what they write",
			"accounts", p.ahead, "first", p.first, "until", p.until.UTC().Format(time.RFC3339))
	}
	if s.cfg.Hooks.Maintained != nil {
		s.cfg.Hooks.Maintained(Maintenance{Accounts: p.accounts, Ahead: p.ahead})
	}
	text, err := json.Marshal(found{foundVersion, p.statuses, s.cfg.Now().UTC()})
	if err != nil {
		return err
	}
	return t.write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, foundKey, text, time.Time{}) })
}

func (s *Server) sweepPosition(ctx context.Context) (after syntax.DID, err error) {
	err = s.cfg.Store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, sweepKey)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		after = syntax.DID(v)
		return err
	})
	return after, err
}

func (s *Server) setSweepPosition(ctx context.Context, did syntax.DID, t term) error {
	before, err := s.sweepPosition(ctx)
	if err != nil || before == did {
		return err
	}
	return t.write(ctx, func(tx storage.KVTx) error {
		if did == "" {
			return tx.Delete(ctx, sweepKey)
		}
		return tx.Set(ctx, sweepKey, []byte(did), time.Time{})
	})
}
