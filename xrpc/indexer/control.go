package indexer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// ErrUnknown: the account is not indexed.
var ErrUnknown = errors.New("indexer: the account is not indexed")

// edit changes an account, whether the indexer runs or not.
func (ix *Indexer) edit(ctx context.Context, did syntax.DID, f func(r *run, d *draft) error) error {
	if _, err := syntax.ParseDID(string(did)); err != nil {
		return fmt.Errorf("indexer: %w", err)
	}
	running := func() *run {
		ix.mu.Lock()
		defer ix.mu.Unlock()
		return ix.current
	}
	for {
		r := running()
		a, err := ix.Sink.Account(ctx, did)
		if err != nil {
			return err
		}
		a.DID = did
		d := &draft{before: a.Version, a: a}
		if err := f(r, d); err != nil || !d.changed {
			return err
		}
		d.a.Version = nextVersion(d.before, ix.now())
		err = ix.Sink.Apply(ctx, &Transaction{Changes: []*Change{d.change()}})
		if r = running(); r != nil { // also one that has begun meanwhile
			r.w.cache.forget(did)
			r.jobs.cancel(did)
			signal(r.jobs.wake)
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

func (ix *Indexer) now() time.Time {
	if ix.Now == nil {
		return time.Now()
	}
	return ix.Now()
}

// Track adds an account to the scope permanently, whatever Scope says. If the Indexer runs, its
// repository is read soon.
func (ix *Indexer) Track(ctx context.Context, did syntax.DID) error {
	return ix.edit(ctx, did, func(_ *run, d *draft) error {
		if d.a.Tracked {
			return nil
		}
		d.a.Tracked, d.changed = true, true
		if d.a.Version == 0 {
			d.a.State, d.a.Active, d.notify = Pending, true, true
		}
		if d.a.State == Pending && d.a.Active {
			d.due(ix.now())
		}
		return nil
	})
}

// Untrack undoes Track. If the Scope does not include the account for another reason, its records
// and then the account are deleted soon, if the Indexer runs. An unknown account is not an error.
func (ix *Indexer) Untrack(ctx context.Context, did syntax.DID) error {
	return ix.edit(ctx, did, func(_ *run, d *draft) error {
		if d.a.Tracked {
			d.a.Tracked, d.changed = false, true
			d.due(ix.now())
		}
		return nil
	})
}

// Resync causes the repository of an account to be read again soon, and compared with the sink.
func (ix *Indexer) Resync(ctx context.Context, did syntax.DID) error {
	return ix.edit(ctx, did, func(_ *run, d *draft) error {
		if d.a.Version == 0 {
			return fmt.Errorf("%w: %s", ErrUnknown, did)
		}
		d.a.Tries = 0
		d.a.Due, d.changed = ix.now(), true
		if d.a.State == Synchronized {
			d.a.State = Desynchronized // else it is read only if its host has another revision
		}
		return nil
	})
}

// Account returns the state of an account. If it is not indexed, the error is ErrUnknown.
func (ix *Indexer) Account(ctx context.Context, did syntax.DID) (Account, error) {
	a, err := ix.Sink.Account(ctx, did)
	if err == nil && a.Version == 0 {
		err = fmt.Errorf("%w: %s", ErrUnknown, did)
	}
	return a, err
}

// SetScope changes the scope. A running Indexer begins at once to read the records that were added,
// and to delete those that were removed. Otherwise it begins when it runs. The change is not
// stored: after a restart, the field Scope applies.
func (ix *Indexer) SetScope(s Scope) error {
	sc, err := newScope(s)
	if err != nil {
		return err
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.scope = sc
	if r := ix.current; r != nil {
		r.next.Store(sc)
		signal(r.swept)
	}
	return nil
}

// counters count what has happened since the start.
type counters struct {
	events, malformed, commits, applied, gaps, foreign, refusedEvents, refused, fetches, fetchErrors, repairs, sinkErrors, skipped, listed atomic.Int64
}

// Progress describes the progress of a running Indexer. Counts begin at its start.
type Progress struct {
	Sources []SourceProgress
	Events  int64 // that came
	Skipped int64 // of those, about accounts that are not indexed
	Commits int64 // that were applied
	Ops     int64 // that the sink has taken
	Found   int64 // accounts that were added from the lists of sources
	// Fetched and FetchErrors count the repositories that were read, and those that could not be
	// read. Repaired counts those of Fetched for which the difference to the known revision was
	// enough.
	Fetched, FetchErrors, Repaired int64
	// Fetching is how many repositories are being read.
	Fetching int
	// Gaps counts commits that did not follow the sink's state, after which the repository is read
	// again. Malformed counts events that could not be decoded. Rejected counts events that did not
	// verify, or whose sender could not be checked. Foreign counts events from a host that is not
	// the account's.
	Gaps, Malformed, Rejected, Foreign int64
	// Refused counts changes of accounts that the sink refused. SinkErrors counts all its errors.
	Refused, SinkErrors int64
}

// SourceProgress describes how far a source was read.
type SourceProgress struct {
	Name      string
	Connected bool
	Err       error // why it is not connected
	// Done is the number up to which all events are processed. Newest is the number of the newest
	// received event; Time is its time.
	Done, Newest int64
	Time         time.Time
	Waiting      int  // events that came and are not done
	Listed       bool // all accounts that the source had are known
}

// Progress returns the present progress, or the zero value if the Indexer does not run.
func (ix *Indexer) Progress() (p Progress) {
	ix.mu.Lock()
	r := ix.current
	ix.mu.Unlock()
	if r == nil {
		return p
	}
	for _, s := range r.sources {
		s.mu.Lock()
		p.Sources = append(p.Sources, SourceProgress{
			Name: s.name, Connected: s.connected, Err: s.err, Done: s.done, Newest: s.newest, Time: s.newestAt, Waiting: s.open.Len(), Listed: s.listed,
		})
		s.mu.Unlock()
	}
	c := &r.count
	p.Events, p.Skipped, p.Commits, p.Ops, p.Found = c.events.Load(), c.skipped.Load(), c.commits.Load(), c.applied.Load(), c.listed.Load()
	p.Fetched, p.FetchErrors, p.Repaired, p.Fetching = c.fetches.Load(), c.fetchErrors.Load(), c.repairs.Load(), r.jobs.count()
	p.Gaps, p.Malformed, p.Rejected, p.Foreign = c.gaps.Load(), c.malformed.Load(), c.refusedEvents.Load(), c.foreign.Load()
	p.Refused, p.SinkErrors = c.refused.Load(), c.sinkErrors.Load()
	return p
}

// Settled reports whether there is nothing to do at the moment: all sources are connected, their
// accounts are known, all received events are processed, and no repository is due. It is for tests,
// and for programs that index once.
func (ix *Indexer) Settled(ctx context.Context) (bool, error) {
	p := ix.Progress()
	ix.mu.Lock()
	r := ix.current
	ix.mu.Unlock()
	if r == nil || len(r.swept) > 0 || p.Fetching > 0 || slices.ContainsFunc(p.Sources, func(s SourceProgress) bool {
		return !s.Connected || !s.Listed || s.Waiting > 0
	}) {
		return false, nil
	}
	stored, err := ix.Sink.Position(ctx, scopeName)
	if err != nil || stored != r.next.Load().text {
		return false, err
	}
	due, err := ix.Sink.Due(ctx, ix.now(), nil, 1, 1)
	return err == nil && len(due) == 0, err
}
