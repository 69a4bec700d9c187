package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// draft is a change of an account that is being made.
type draft struct {
	before  int64
	a       Account
	ops     []Op
	size    int
	notify  bool
	changed bool
	wake    bool // the account is due now
}

func (r *run) draft(ctx context.Context, did syntax.DID) (*draft, error) {
	a, err := r.w.account(ctx, did)
	if err != nil {
		return nil, err
	}
	return &draft{before: a.Version, a: a}, nil
}

func (d *draft) known() bool { return d.a.Version != 0 || d.changed }

// due has the account read at a time, unless it is earlier anyway.
func (d *draft) due(at time.Time) {
	if d.a.Due.IsZero() || at.Before(d.a.Due) {
		d.a.Due, d.changed = at, true
	}
	d.wake = true
}

func (d *draft) change() *Change {
	return &Change{Before: d.before, Account: d.a, Ops: d.ops, AccountChanged: d.notify}
}

// tasks does tasks of an account. Whatever happens, events end only when their effects are stored.
func (r *run) tasks(ctx context.Context, did syntax.DID, tasks []task) {
	for len(tasks) > 0 {
		if tasks[0].do != nil {
			tasks[0].do()
			tasks = tasks[1:]
			continue
		}
		n := 1
		for n < len(tasks) && tasks[n].do == nil {
			n++
		}
		for items := tasks[:n]; len(items) > 0 && ctx.Err() == nil; {
			items = items[r.events(ctx, did, items):]
		}
		tasks = tasks[n:]
	}
}

// events applies events in one change, and returns how many it has done with. It tries until that
// works; it returns 0 only if the context has ended, or to begin anew.
func (r *run) events(ctx context.Context, did syntax.DID, items []task) (n int) {
	var d *draft
	sc := r.scope.Load()
	err := persist(ctx, r.sinkFailed, func() (err error) {
		d, err = r.draft(ctx, did)
		return err
	})
	if err != nil {
		return 0
	}
	for n < len(items) && len(d.ops) < groupOps/2 && d.size < groupBytes/4 {
		if err := r.event(ctx, d, items[n].item); err != nil {
			if ctx.Err() != nil {
				return 0
			}
			r.Log.Info("an event was not applied", "source", items[n].src.name, "did", did, "error", err)
		}
		n++
	}
	if ctx.Err() != nil {
		return 0 // verification may have failed for that reason
	}
	if d.changed {
		if err := r.store(ctx, d); err != nil {
			return 0
		}
		r.recheck(ctx, &d.a, sc)
	}
	for _, t := range items[:n] {
		t.src.endItem(t.item)
	}
	return n
}

// store stores a draft. If the sink refuses it, but not the account as such, the account is marked
// as failed, which is no error. An error means that the account has to be looked at again.
func (r *run) store(ctx context.Context, d *draft) error {
	// A fault of the database passes. What only the stream says, as the status of an account, is
	// not to be given up for it.
	tries := 2
	if d.notify {
		tries = 8
	}
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 10*time.Second) {
		err := r.w.submit(ctx, d.change(), nil)
		switch {
		case err == nil:
			r.count.applied.Add(int64(len(d.ops)))
			if d.wake {
				signal(r.jobs.wake)
			}
			return nil
		case ctx.Err() != nil, errors.Is(err, ErrConflict):
			return err
		}
		if tries--; tries <= 0 && (len(d.ops) > 0 || d.notify) {
			if ok, markErr := r.refused(ctx, d, err); ok || errors.Is(markErr, ErrConflict) {
				return markErr
			}
		}
		r.sinkFailed(err)
		r.lanes.withoutSlot(ctx, func() { sleep.For(ctx, delay) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// refused marks an account whose change the sink has refused. Its repository is read later, which
// brings the change again.
func (r *run) refused(ctx context.Context, d *draft, cause error) (ok bool, err error) {
	old, err := r.Sink.Account(ctx, d.a.DID)
	if err != nil {
		return false, err
	}
	if old.Version != d.before {
		return false, fmt.Errorf("%w: %s", ErrConflict, d.a.DID)
	}
	f := &draft{before: old.Version, a: old}
	if old.Version == 0 { // it would be told with it
		return false, nil
	}
	if f.a.State == Synchronized {
		f.a.State = Desynchronized
	}
	r.failedAccount(&f.a, fmt.Errorf("the sink refuses a change: %w", cause))
	if err := r.w.submit(ctx, f.change(), nil); err != nil {
		return false, err
	}
	r.count.refused.Add(1)
	r.Log.Warn("the sink refuses a change of an account; it is tried again later", "did", d.a.DID, "error", cause)
	return true, nil
}

// failedAccount notes a failure, and when to try again.
func (r *run) failedAccount(a *Account, err error) {
	a.Tries++
	a.Error = shorten(err)
	most := time.Hour
	if a.State == Pending && a.Read.IsZero() && a.Host == "" {
		most = 24 * time.Hour // anybody can name accounts that nobody can find
	}
	a.Due = r.Now().Add(backoff(a.Tries, 5*time.Second, most))
}

// shorten is the text of an error, as it is stored.
func shorten(err error) string {
	const most = 500
	text := err.Error()
	if len(text) > most {
		text = text[:most]
	}
	return text
}

func (r *run) sinkFailed(err error) {
	r.count.sinkErrors.Add(1)
	r.Log.Error("the sink failed; it is tried again", "error", err)
}

// event puts what an event says into a draft. The error is for the log.
func (r *run) event(ctx context.Context, d *draft, it *item) error {
	err := r.said(ctx, d, it)
	if !d.known() {
		r.count.skipped.Add(1)
	}
	return err
}

func (r *run) said(ctx context.Context, d *draft, it *item) error {
	switch m := it.message.(type) {
	case *commit.Event:
		return r.commit(ctx, d, it, m)
	case *commit.Sync:
		return r.sync(ctx, d, it, m)
	case *commit.Identity:
		return r.identity(ctx, d, m)
	case *commit.Account:
		return r.account(ctx, d, it, m)
	case *unreadable:
		return r.unreadable(ctx, d, it, m)
	}
	return nil
}

// readAfterDrop has an account read of which a commit was dropped.
func (r *run) readAfterDrop(ctx context.Context, it *item, signaled bool) {
	for ctx.Err() == nil {
		d, err := r.draft(ctx, it.message.About())
		if err == nil {
			sc := r.scope.Load()
			if signaled && !d.a.Signaled {
				d.a.Signaled = true
				d.changed = d.a.Version != 0
			}
			switch {
			case d.a.Version != 0:
				d.due(r.Now())
				if d.a.State == Synchronized {
					d.a.State, d.changed = Desynchronized, true
				}
			case sc.wants(&d.a):
				r.add(d, sc, it.src)
			}
			if d.changed {
				err = r.store(ctx, d)
			}
		}
		if err == nil {
			it.src.endItem(it)
			return
		}
		if !errors.Is(err, ErrConflict) {
			r.sinkFailed(err)
			sleep.For(ctx, time.Second)
		}
	}
}

// commit takes a #commit event.
func (r *run) commit(ctx context.Context, d *draft, it *item, e *commit.Event) error {
	sc := r.scope.Load()
	signaled := !d.a.Signaled && sc.signals(e.Ops)
	a := d.a
	a.Signaled = a.Signaled || signaled
	if !sc.wants(&a) {
		return nil
	}
	if err := r.speaksFor(ctx, it.src, e.Repo); err != nil {
		if passes(err) && d.a.Version == 0 {
			d.a.Signaled = a.Signaled
			r.addLater(d, sc, it.src)
		}
		return r.checkLater(ctx, d, err)
	}
	if signaled {
		d.a.Signaled = true
		d.changed = true
	}
	if d.a.Version == 0 && d.a.State == "" {
		r.add(d, sc, it.src)
	}
	if j := r.jobs.byAccount(e.Repo); j != nil {
		r.jobs.keep(j, it)
		return nil
	}
	if !d.a.Active {
		// Whatever it writes is read when it is active again. It may be: that an event says so
		// which was missed.
		r.readSoon(d)
		return nil
	}
	// An account that is pending has no records in the sink.
	first := d.a.State == Pending && e.Since == "" && !e.PrevData.Defined()
	if d.a.State != Synchronized && !first {
		// The account is due, and will be read after this commit. If nobody could find it, it
		// exists now.
		if d.a.State == Pending && d.a.Tries > 0 {
			r.readSoon(d)
		}
		return nil
	}
	return r.verified(ctx, d, it.src, e, first)
}

// add makes an account known. It is read as soon as possible.
func (r *run) add(d *draft, sc *scope, s *source) {
	d.a.State, d.a.Active, d.a.Filter = Pending, true, sc.records.text
	if s != nil && s.Host != "" {
		d.a.Host = s.url
	}
	d.notify, d.changed = true, true
	d.due(r.Now())
}

// verified takes a commit that should follow what the sink has.
func (r *run) verified(ctx context.Context, d *draft, s *source, e *commit.Event, first bool) error {
	v := r.verifier
	if s.Trusted {
		v = &commit.Verifier{Now: r.Now}
	}
	last := commit.State{Rev: d.a.Rev, Data: d.a.Data}
	if first {
		last = commit.State{}
	}
	next, records, err := v.Commit(ctx, last, e)
	switch {
	case errors.Is(err, commit.ErrStale):
		return nil
	case errors.Is(err, commit.ErrOutOfSync):
		r.count.gaps.Add(1)
		d.a.State, d.changed = Desynchronized, true
		d.due(r.Now())
		return nil
	case err != nil:
		return r.checkLater(ctx, d, err)
	}
	if first { // nothing was there before
		d.a.State, d.a.Due, d.a.Read = Synchronized, time.Time{}, r.Now()
		d.a.Filter = r.scope.Load().records.text
		d.a.Tries, d.a.Error = 0, ""
		if !s.Trusted {
			_, _ = r.lookUp(ctx, d) // it was resolved just now
		}
	}
	r.follows(d, next, e, records)
	return nil
}

// follows adds a verified commit to a draft.
func (r *run) follows(d *draft, next commit.State, e *commit.Event, records map[string][]byte) {
	// The sink has exactly the records of Account.Filter. If the scope is another one by now, the
	// account is due, and until it was read, that does not change.
	has := r.scope.Load().records
	if d.a.Filter != has.text {
		has = newFilterOf(d.a.Filter)
	}
	for _, op := range e.Ops {
		if !has.hasPath(op.Path) {
			continue
		}
		o := Op{DID: e.Repo, Rev: next.Rev, Action: op.Action, CID: op.CID, Prev: op.Prev, Record: records[op.Path], Live: true}
		o.Collection, o.RKey, _ = syntax.ParsePath(op.Path) // the verifier has done so
		d.ops = append(d.ops, o)
		d.size += len(o.Record) + 256
	}
	d.a.Rev, d.a.Data, d.changed = next.Rev, next.Data, true
	r.count.commits.Add(1)
}

// addLater makes an account known of which it is not known whether a host speaks for it. It is read
// when that can be found out.
func (r *run) addLater(d *draft, sc *scope, s *source) {
	r.add(d, sc, s)
	d.a.Due = r.Now().Add(jitter(suspectPause + time.Second))
}

// readSoon has an account read within a minute, whose repository could not be read before or is not
// active, as an event says something else.
func (r *run) readSoon(d *draft) {
	if at := r.Now().Add(checkPause); d.a.Due.IsZero() || d.a.Due.After(at) {
		d.dueAgain(at)
	}
}

// checkPause is the least time between two readings that checkLater causes.
const checkPause = time.Minute

// checkLater handles an event of a known account that is not believed: the account's repository,
// which is authoritative, is read again, at most once a minute for this reason.
func (r *run) checkLater(ctx context.Context, d *draft, cause error) error {
	if ctx.Err() != nil || errors.Is(cause, errForeign) { // another host must not be able to cause work
		return cause
	}
	r.count.refusedEvents.Add(1)
	if d.a.Version == 0 {
		return cause
	}
	if at := r.Now(); d.a.Due.IsZero() || d.a.Due.After(at.Add(checkPause)) && d.a.Tries == 0 {
		if next := d.a.Read.Add(checkPause); next.After(at) && !d.a.Read.After(at) { // else the clock was wrong
			at = next
		}
		d.a.Error = shorten(cause)
		d.due(at)
	}
	return cause
}

// sync takes a #sync event.
func (r *run) sync(ctx context.Context, d *draft, it *item, m *commit.Sync) error {
	sc := r.scope.Load()
	if !sc.wants(&d.a) {
		return nil
	}
	if err := r.speaksFor(ctx, it.src, m.DID); err != nil {
		if passes(err) && d.a.Version == 0 {
			r.addLater(d, sc, it.src)
		}
		return r.checkLater(ctx, d, err)
	}
	if d.a.Version == 0 && d.a.State == "" {
		r.add(d, sc, it.src)
	}
	if j := r.jobs.byAccount(m.DID); j != nil {
		r.jobs.keep(j, it)
		return nil
	}
	if !d.a.Active || d.a.State != Synchronized {
		if !d.a.Active || d.a.State == Pending && d.a.Tries > 0 {
			r.readSoon(d)
		}
		return nil
	}
	v := r.verifier
	if it.src.Trusted {
		v = &commit.Verifier{Now: r.Now}
	}
	last := commit.State{Rev: d.a.Rev, Data: d.a.Data}
	next, err := v.Sync(ctx, last, m)
	switch {
	case errors.Is(err, commit.ErrStale):
		return nil
	case err != nil:
		return r.checkLater(ctx, d, err)
	case next == last:
		return nil
	case next.Data == last.Data: // another commit of the same records
		d.a.Rev, d.changed = next.Rev, true
		return nil
	}
	d.a.State, d.changed = Desynchronized, true
	d.due(r.Now())
	return nil
}

// account takes an #account event.
func (r *run) account(ctx context.Context, d *draft, it *item, m *commit.Account) error {
	sc := r.scope.Load()
	if !sc.wants(&d.a) {
		return nil
	}
	ofHost := it.src.Host != ""
	if ofHost && !m.Active { // one that the account has left says that too
		r.refetchDocument(m.DID)
	}
	if err := r.speaksFor(ctx, it.src, m.DID); err != nil {
		gone := errors.Is(err, identity.ErrTombstoned) || errors.Is(err, identity.ErrNotFound)
		if !gone || m.Active || d.a.Host != it.src.url {
			return r.checkLater(ctx, d, err)
		}
	}
	if d.a.Version == 0 && d.a.State == "" {
		if !m.Active {
			return nil
		}
		r.add(d, sc, it.src)
	}
	r.status(d, m.Active, m.Status)
	if ofHost && !m.Active && m.Status != commit.Deleted && d.changed {
		d.due(r.Now().Add(checkPause)) // if it was not true, that heals it
	}
	return nil
}

// status sets what an account's host says of it.
func (r *run) status(d *draft, active bool, status string) {
	if active {
		status = ""
	}
	if d.a.Active == active && d.a.Status == status {
		return
	}
	d.a.Active, d.a.Status = active, status
	d.notify, d.changed = true, true
	switch {
	case active: // it may have written silently
		if d.a.State == Synchronized {
			d.a.State = Desynchronized
		}
		d.a.Tries, d.a.Error = 0, ""
		d.due(r.Now())
	case status == commit.Deleted && d.a.State != Pending: // its records are deleted
		d.due(r.Now())
	default:
		d.a.Due = time.Time{}
	}
	r.jobs.cancel(d.a.DID)
}

// unreadable is an event that cannot be decoded, of which only the account is known.
type unreadable struct {
	*commit.Sync
	err error
}

// unreadable has the account looked at.
func (r *run) unreadable(ctx context.Context, d *draft, it *item, m *unreadable) error {
	if d.a.Version == 0 || !r.scope.Load().wants(&d.a) {
		return m.err
	}
	if err := r.speaksFor(ctx, it.src, m.DID); err != nil {
		return r.checkLater(ctx, d, err)
	}
	return r.checkLater(ctx, d, m.err)
}
