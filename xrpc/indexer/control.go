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

// ErrUnknown says that an account is not indexed.
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

// Track adds an account to the scope for good, whatever Scope says. Its repository is read soon, if
// the Indexer runs.
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

// Untrack takes back a Track. If the account is not in the Scope otherwise, its records are deleted
// soon, if the Indexer runs, and then the account. It is no error if it is not known.
func (ix *Indexer) Untrack(ctx context.Context, did syntax.DID) error {
	return ix.edit(ctx, did, func(_ *run, d *draft) error {
		if d.a.Tracked {
			d.a.Tracked, d.changed = false, true
			d.due(ix.now())
		}
		return nil
	})
}

// Resync has the repository of an account read again soon, and compared with the sink.
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

// Account returns what is known of an account. If it is not indexed, the error is ErrUnknown.
func (ix *Indexer) Account(ctx context.Context, did syntax.DID) (Account, error) {
	a, err := ix.Sink.Account(ctx, did)
	if err == nil && a.Version == 0 {
		err = fmt.Errorf("%w: %s", ErrUnknown, did)
	}
	return a, err
}

// SetScope changes the scope. If the Indexer runs, it begins at once to read the records of what
// was added, and to delete those of what was removed; else when it runs. An Indexer that is made
// anew has the scope of its field Scope.
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
	events, malformed, commits, applied, gaps, foreign, refusedEvents, refused, fetches, fetchErrors, repairs, sinkErrors atomic.Int64
}

// Progress says how far an Indexer is that runs. Numbers are counted since its start.
type Progress struct {
	Sources []SourceProgress
	Events  int64 // that came
	Commits int64 // that were applied
	Ops     int64 // that the sink has taken
	// Fetched and FetchErrors are how many repositories were read, and could not be read. Repaired
	// are those of Fetched for which their difference was enough.
	Fetched, FetchErrors, Repaired int64
	// Fetching is how many are being read.
	Fetching int
	// Gaps are commits that did not follow what the sink has, after which the repository is read
	// again. Malformed events could not be decoded; Rejected ones did not verify, or their sender
	// could not be checked. Foreign are events from a host that is not the account's.
	Gaps, Malformed, Rejected, Foreign int64
	// Refused are changes of accounts that the sink has refused, and SinkErrors all its errors.
	Refused, SinkErrors int64
}

// SourceProgress says how far a source was read.
type SourceProgress struct {
	Name      string
	Connected bool
	Err       error // why it is not connected
	// Done is the number up to which all events are done, and Newest that of the newest event that
	// came, with its time.
	Done, Newest int64
	Time         time.Time
	Waiting      int  // events that came and are not done
	Listed       bool // all accounts that the source had are known
}

// Progress returns how far the indexer is. It is zero if it does not run.
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
	p.Events, p.Commits, p.Ops = c.events.Load(), c.commits.Load(), c.applied.Load()
	p.Fetched, p.FetchErrors, p.Repaired, p.Fetching = c.fetches.Load(), c.fetchErrors.Load(), c.repairs.Load(), r.jobs.count()
	p.Gaps, p.Malformed, p.Rejected, p.Foreign = c.gaps.Load(), c.malformed.Load(), c.refusedEvents.Load(), c.foreign.Load()
	p.Refused, p.SinkErrors = c.refused.Load(), c.sinkErrors.Load()
	return p
}

// Settled reports whether nothing is to be done at the moment: all sources are connected, their
// accounts are known, all events that came are done, and no repository is due. It is for tests, and
// for programs that index once.
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
