package indexer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// jobs are the repositories that are being read. Commits of their accounts are kept meanwhile, to
// be applied after it. They need not be kept for longer than the process lives: the account stays
// due until all is stored.
//
//	call              claim        open                 close           end
//	                    │            │                    │              │
//	state       no job  │  claimed   │        open        │    closed    │  no job
//	a commit    applied │  applied   │  kept in the job   │   applied    │  applied
//	who calls           fetchAll     in the account's lane: no event comes in between
//
// A job that fails has no close: end drops the commits that were kept.
type jobs struct {
	wake     chan struct{} // has an element when an account has become due
	slowMost int           // how many slow downloads have no place; set before the first job

	// mu guards these, and the fields of each job. No other lock is taken while it is held.
	mu    sync.Mutex
	list  map[syntax.DID]*job
	bytes int       // of all commits that are kept
	cut   time.Time // when the slowest was ended last
}

type job struct {
	// These do not change.
	did     syntax.DID
	cancel  context.CancelFunc
	failing bool // the host had failed when it was asked before

	// jobs.mu guards these.
	kept       []*item // nil: the job is not open
	bytes      int     // of kept
	overflowed bool    // a commit was not kept, as there were too many
	pace       *pace   // of the download that is under way; nil: there is none
}

// Limits on the commits that are kept.
const (
	keptOfOne = 2 << 20
	keptOfAll = 64 << 20
)

// byAccount returns the job of an account, if it is being read.
func (x *jobs) byAccount(did syntax.DID) *job {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j := x.list[did]; j != nil && j.kept != nil {
		return j
	}
	return nil
}

// keep keeps an event of an account for the end of its job.
func (x *jobs) keep(j *job, it *item) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j.overflowed = j.overflowed || j.bytes+it.size > keptOfOne || x.bytes+it.size > keptOfAll; j.overflowed {
		return
	}
	j.kept = append(j.kept, it)
	j.bytes += it.size
	x.bytes += it.size
}

// open begins to keep commits. It is called in the order of the account's events, when the account
// is due, as what is kept is lost if the job fails.
func (x *jobs) open(j *job) {
	x.mu.Lock()
	defer x.mu.Unlock()
	j.kept = make([]*item, 0, 4)
}

// close ends keeping, and returns what was kept.
func (x *jobs) close(j *job) ([]*item, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	kept := j.kept
	x.bytes -= j.bytes
	j.kept, j.bytes = nil, 0
	return kept, j.overflowed
}

// cancel ends the job of an account, which will be begun anew if the account is due.
func (x *jobs) cancel(did syntax.DID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j := x.list[did]; j != nil {
		j.cancel()
	}
}

func (x *jobs) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.list)
}

// claim makes a job for an account, unless there is one. failing: its host failed before.
func (x *jobs) claim(ctx context.Context, did syntax.DID, failing bool) (*job, context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.list[did] != nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &job{did: did, cancel: cancel, failing: failing}
	x.list[did] = j
	return j, ctx
}

// end ends a job. Commits that it kept are dropped: the account is due.
func (x *jobs) end(j *job) {
	x.close(j)
	x.mu.Lock()
	defer x.mu.Unlock()
	j.cancel()
	delete(x.list, j.did)
}

// fetchAll reads the repositories of accounts that are due, several at once.
func (r *run) fetchAll(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	most := orDefault(r.Fetches, 8)
	r.jobs.slowMost = slowShare * most
	mostFailing := max(most/2, 1)
	done := make(chan struct{}, 1)
	var queue []Account // that were due a moment ago
	for ctx.Err() == nil {
		taken, failing := r.jobs.places()
		free := most - taken
		if free <= 0 {
			r.jobs.cutSlowest()
		}
		if len(queue) == 0 && free > 0 {
			var err error
			// Those that are being read are among them.
			if queue, err = r.Sink.Due(ctx, r.Now(), r.hosts.closed(failing < mostFailing), 2*r.hosts.perHost+2, 4*most); err != nil && ctx.Err() == nil {
				r.sinkFailed(err)
			}
		}
		started := 0
		for ; len(queue) > 0 && free > 0; queue = queue[1:] {
			a := queue[0]
			open, failed := r.hosts.open(a.Host)
			if !open || failed && failing >= mostFailing {
				continue
			}
			j, jobCtx := r.jobs.claim(ctx, a.DID, failed)
			if j == nil {
				continue
			}
			if failed {
				failing++
			}
			started++
			free--
			running.Go(func() {
				defer signal(done)
				defer r.jobs.end(j)
				r.job(ctx, jobCtx, j)
			})
		}
		if started > 0 && free > 0 {
			continue
		}
		wait := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-done:
		case <-r.jobs.wake:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// errBusy: the host has as many downloads as it may have.
var errBusy = errors.New("the host is busy")

// job does what is due for an account. ctx ends when the job is cancelled, running with the
// indexer.
func (r *run) job(running, ctx context.Context, j *job) {
	var a Account
	var err error
	due := false
	r.lanes.do(j.did, func() {
		a, err = r.w.fresh(ctx, j.did)
		if due = err == nil && !a.Due.IsZero() && !a.Due.After(r.Now()); due {
			r.jobs.open(j) // before the next event, as events are kept only for what is due
		}
	})
	if !due {
		return
	}
	f := &fetch{run: r, j: j, d: &draft{before: a.Version, a: a}, sc: r.scope.Load()}
	began := time.Now()
	err = f.do(ctx)
	if errors.Is(err, errBusy) || errors.Is(err, ErrConflict) || ctx.Err() != nil {
		return // it stays due
	}
	r.count.fetches.Add(1)
	if r.Fetched != nil {
		r.Fetched(j.did, time.Since(began), err)
	}
	if err == nil {
		return
	}
	r.count.fetchErrors.Add(1)
	r.Log.Info("an account could not be read", "did", j.did, "host", a.Host, "error", err)
	r.lanes.do(j.did, func() {
		if ctx.Err() == nil { // else an event has come meanwhile that counts for more
			r.fetchFailed(inLane(running), j.did, err) // which may cancel the job
		}
	})
}

// inactiveErrors are the errors by which a host says that an account is not active, and the status
// that it means.
var inactiveErrors = map[string]string{
	"RepoDeactivated": "deactivated", "RepoTakendown": "takendown", "RepoSuspended": "suspended", "RepoDeleted": commit.Deleted,
}

// triesToDelete is how often in a row a host must have said that it does not know an account before
// that counts as a deletion, of which the event was missed.
const triesToDelete = 3

// fetchFailed notes a failure of a job.
func (r *run) fetchFailed(ctx context.Context, did syntax.DID, cause error) {
	d, err := r.draft(ctx, did)
	if err != nil || !d.known() || d.a.Due.IsZero() {
		return
	}
	if d.a.Status == commit.Deleted { // there is nothing to be read, unless an event says so
		d.a.Due, d.a.Error, d.changed = time.Time{}, shorten(cause), d.a.State == Pending
		if d.changed {
			r.storeFailure(ctx, d)
		}
		return
	}
	var xerr *xrpc.Error
	switch {
	case errors.As(cause, &xerr) && inactiveErrors[xerr.Name] != "":
		r.status(d, false, inactiveErrors[xerr.Name])
		d.a.Error = shorten(cause)
		if d.a.Status != commit.Deleted {
			// An event says when it is back; if it has moved, that may have been missed.
			d.a.Tries++
			d.a.Due = r.Now().Add(backoff(d.a.Tries, checkPause, 24*time.Hour))
		}
	case errors.Is(cause, identity.ErrTombstoned):
		r.status(d, false, commit.Deleted)
	case errors.As(cause, &xerr) && xerr.Name == "RepoNotFound" && d.a.Tries+1 >= triesToDelete && d.a.State != Pending:
		r.status(d, false, commit.Deleted)
		d.a.Error = shorten(cause)
	case errors.As(cause, &xerr) && xerr.Status == http.StatusTooManyRequests:
		// That is about the host, which is left alone for a while.
		d.a.Error = shorten(cause)
		d.a.Due = r.Now().Add(jitter(2 * time.Second))
	default:
		r.failedAccount(&d.a, cause)
		if errors.Is(cause, crypto.ErrSignature) || errors.Is(cause, commit.ErrBadSignature) {
			r.refetchDocument(did) // the key may have been changed
		}
	}
	d.changed = true
	r.storeFailure(ctx, d)
}

func (r *run) storeFailure(ctx context.Context, d *draft) {
	if err := r.store(ctx, d); err != nil && ctx.Err() == nil && !errors.Is(err, ErrConflict) {
		r.sinkFailed(err)
	}
}

// fetch is the work of one job.
type fetch struct {
	*run
	j  *job
	d  *draft
	sc *scope
}

func (f *fetch) do(ctx context.Context) error {
	a := &f.d.a
	switch {
	case !f.sc.wants(a):
		return f.removeAccount(ctx)
	case !a.Active && a.Status == commit.Deleted && a.State != Pending:
		return f.remove(ctx, Pending)
	case a.State == Synchronized && a.Filter != f.sc.records.text && f.sc.records.within(a.Filter):
		return f.trim(ctx)
	}
	if err := f.checkRelayStatus(ctx); err != nil {
		return err
	}
	for _, s := range f.sources {
		if s.Local == nil || s.Local.Repos == nil {
			continue
		}
		found, err := f.local(ctx, s)
		if found || err != nil {
			return err
		}
	}
	return f.remote(ctx)
}

// put stores the draft, and goes on with a new one.
func (f *fetch) put(ctx context.Context) error {
	c := f.d.change()
	if err := f.w.submit(ctx, c, nil); err != nil {
		return err
	}
	f.count.applied.Add(int64(len(f.d.ops)))
	a := c.Account
	f.d = &draft{before: a.Version, a: a}
	return nil
}

// remote reads a repository from the account's host.
func (f *fetch) remote(ctx context.Context) error {
	known := f.d.a.Host
	if f.d.a.Tries > 0 || !f.d.a.Read.IsZero() {
		f.refetchDocument(f.d.a.DID) // it may have moved
	}
	doc, err := f.lookUp(ctx, f.d)
	if err != nil {
		return err
	}
	key, err := doc.SigningKey()
	if err != nil {
		return err
	}
	if f.d.a.Host == "" {
		return errors.New("the DID document names no host")
	}
	if f.d.a.Host != known {
		if err := f.put(ctx); err != nil { // so that accounts of a busy host can be told apart
			return err
		}
	}
	if !f.hosts.acquire(f.d.a.Host) {
		return errBusy
	}
	err = f.download(ctx, key)
	f.hosts.release(f.d.a.Host, hostError(ctx, err), err)
	return err
}

// hostError reports whether a host has failed, rather than one account.
func hostError(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var xerr *xrpc.Error
	if errors.As(err, &xerr) {
		return xerr.Status >= 500 || xerr.Status == http.StatusTooManyRequests
	}
	return errors.Is(err, errDownload)
}

// errDownload: a download broke.
var errDownload = errors.New("the download failed")

func downloadError(err error) error { return fmt.Errorf("%w: %w", errDownload, err) }
