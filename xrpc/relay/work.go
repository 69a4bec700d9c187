package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// outcome is what becomes of a message.
type outcome struct {
	result Result
	rule   Rule
	hold   error // not nil: it cannot be decided yet
	remove bool  // the account is deleted
	at     int64 // of a relay's message that says so: its time
	repair bool  // the account is desynchronized
}

func dropped(rule Rule) outcome { return outcome{result: Dropped, rule: rule} }

// Delays of lanes.
const (
	holdLeast, holdMost     = time.Second, time.Minute
	repairLeast, repairMost = 5 * time.Second, time.Hour
	storeRetry              = 2 * time.Second
)

// backoff is the n-th of a series of waiting times, which doubles.
func backoff(n int, least, most time.Duration) time.Duration {
	return min(most, least<<min(n, 30))
}

// work deals with messages of an account: see queue.work.
func (h *host) work(ctx context.Context, l *lane, items []*item) (done int, wait time.Duration) {
	const tries = 20
	for try := 0; ; try++ {
		b := &batch{h: h, lane: l, items: items}
		wait, err := b.run(ctx)
		switch {
		case err == nil:
			return b.done, wait
		case ctx.Err() != nil:
			return b.done, 0
		case changed(err) && try < tries:
			items = items[b.done:]
			done += b.done
			if b.done > 0 { // it went on, and then somebody else changed the account
				rest, wait := h.work(ctx, l, items)
				return done + rest, wait
			}
			continue
		}
		h.note(err)
		h.r.Logger.Error("relay: the store failed", "host", h.name, "did", string(l.did), "err", err)
		l.waiting = true
		return done + b.done, storeRetry
	}
}

// batch is the first messages of a lane while they are dealt with.
type batch struct {
	h     *host
	lane  *lane
	items []*item
	done  int // items that are dealt with, durably

	c   *change
	out []outcome // of items[done:], not durable yet
}

// run deals with the messages, and with what else is to be done for the account. It returns for how
// long the lane is to wait; less than 0: not at all.
func (b *batch) run(ctx context.Context) (wait time.Duration, err error) {
	l := b.lane
	l.waiting = false
	if err := b.load(ctx); err != nil {
		return 0, err
	}
	if err := b.maintain(ctx, b.c.from.state.Desync); err != nil {
		return 0, err
	}
	for i := b.done; i < len(b.items); i++ {
		o := b.h.message(ctx, b.c, b.items[i])
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if o.hold != nil {
			return b.hold(ctx, o.hold)
		}
		l.heldSince, l.holds = time.Time{}, 0
		if o.repair {
			b.c.to.state.Desync = true
		}
		if o.remove {
			if err := b.removeAccount(ctx, i, o); err != nil {
				return 0, err
			}
		} else if b.out = append(b.out, o); !o.repair {
			continue
		} else if err := b.flush(ctx); err != nil {
			return 0, err
		}
		if err := b.load(ctx); err != nil {
			return 0, err
		}
		if err := b.maintain(ctx, b.c.from.state.Desync); err != nil {
			return 0, err
		}
	}
	if err := b.flush(ctx); err != nil {
		return 0, err
	}
	if err := b.maintain(ctx, true); err != nil {
		return 0, err
	}
	return b.untilNext(), nil
}

// removeAccount carries out the i-th message, by which the account is deleted. It counts as dealt
// with only when that has been done.
func (b *batch) removeAccount(ctx context.Context, i int, o outcome) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	row := &tombstone{Status: commit.Deleted, State: state{AccountAt: o.at}}
	if err := b.h.r.removeAccount(ctx, b.lane.did, row, b.h.r.event(b.lane.did, b.items[i])); err != nil {
		return err
	}
	b.h.count(b.items[i], o)
	b.done++
	return nil
}

// untilNext is how long the lane is to wait when its messages are done: until the next attempt at
// what is to be done for the account.
func (b *batch) untilNext() time.Duration {
	if b.lane.repairAt.IsZero() {
		return -1
	}
	return max(0, min(b.lane.repairAt.Sub(b.h.r.Now()), repairMost)) // the clock may have gone back
}

// load reads the account.
func (b *batch) load(ctx context.Context) error {
	a, err := b.h.r.account(ctx, b.lane.did)
	if err == nil {
		b.c = b.h.r.change(a)
		b.c.via, b.c.hasWaited = b.h.name, b.lane.holds > 0
	}
	return err
}

// flush carries out what the messages change, and tells what became of them.
func (b *batch) flush(ctx context.Context) error {
	if err := b.c.apply(ctx); err != nil {
		return err
	}
	for i := range b.out {
		b.h.count(b.items[b.done+i], b.out[i])
	}
	b.done += len(b.out)
	b.out = nil
	b.c = b.h.r.change(&b.c.to)
	b.c.via = b.h.name
	return nil
}

// notYet says that a message is against what a document says, which may be changing just now: the
// account is new in the directory, or moves.
type notYet struct {
	rule Rule // that it breaks
	err  error
}

func (e *notYet) Error() string { return e.err.Error() }
func (e *notYet) Unwrap() error { return e.err }

// notYetFor is how long such a message waits. It is longer than freshAfter.
const notYetFor = 20 * time.Second

// hold has the messages from the next one on wait for the identity of the account. After too long,
// or if they are too many, or memory is scarce, they are given up: the account is repaired when its
// identity is known.
func (b *batch) hold(ctx context.Context, cause error) (time.Duration, error) {
	l, now := b.lane, b.h.r.Now()
	b.h.note(cause)
	if l.heldSince.IsZero() || l.heldSince.After(now) { // or the clock went back
		l.heldSince = now
	}
	most := b.h.r.HoldFor
	var soon *notYet
	if errors.As(cause, &soon) {
		most = min(most, notYetFor)
	}
	if !l.overBudget && now.Sub(l.heldSince) < most && !b.h.r.memory.halfUsed() {
		if err := b.flush(ctx); err != nil {
			return 0, err
		}
		l.waiting = true
		l.holds++
		return backoff(l.holds-1, holdLeast, holdMost), nil
	}
	rule := RuleRepaired
	if soon != nil {
		rule = soon.rule // the host must not be able to do anything to an account that is not its own
	} else {
		b.c.to.state.Desync = true
	}
	for range b.items[b.done+len(b.out):] {
		b.out = append(b.out, dropped(rule))
	}
	if err := b.flush(ctx); err != nil {
		return 0, err
	}
	l.heldSince, l.overBudget, l.holds = time.Time{}, false, 0
	if l.repairAt.IsZero() && soon == nil {
		l.repairAt = now.Add(repairLeast)
	}
	return b.untilNext(), nil
}

// message decides about one message. What it changes is in c.
func (h *host) message(ctx context.Context, c *change, it *item) outcome {
	if len(it.payload) > maxMessage {
		return dropped(RuleSize)
	}
	m, err := commit.Decode(it.kind, it.payload)
	switch {
	case errors.Is(err, commit.ErrUnknownKind):
		return dropped(RuleKind)
	case err != nil:
		return dropped(RuleMalformed)
	}
	if o, ok := h.checkSender(ctx, c, it, m); !ok {
		return o
	}
	if c.to.tombstone != nil && c.to.tombstone.Local {
		return dropped(RuleTakedown)
	}
	switch m := m.(type) {
	case *commit.Event:
		return h.commit(ctx, c, it, m)
	case *commit.Sync:
		return h.sync(ctx, c, it, m)
	case *commit.Identity:
		return h.identity(c, it, m)
	case *commit.Account:
		return h.account(c, it, m)
	}
	return dropped(RuleKind)
}

// checkSender checks that the host is the one that the account's document names, and notes that it
// is.
func (h *host) checkSender(ctx context.Context, c *change, it *item, m commit.Message) (outcome, bool) {
	a, r := &c.to, h.r
	stranger := a.identity == nil && a.state.Host != h.name && !h.isRelay()
	if stranger && !h.mayRefresh(ctx) {
		return outcome{hold: ctx.Err()}, false
	}
	w, err := r.resolve(ctx, a.did, a.identity)
	if errors.Is(err, identity.ErrNotFound) && c.hasWaited { // it may be new there
		if anew, fresh, e := r.resolveAnew(ctx, a.did, nil); fresh {
			w, err = anew, e
		}
	}
	if err != nil {
		if _, isAccount := m.(*commit.Account); isAccount && unknown(err) && a.exists && a.state.Host == h.name {
			return outcome{}, true // it was deleted in the directory, too
		}
		return noIdentity(err), false
	}
	a.identity = w
	doubt, fresh := !h.isRelay() && w.host != h.name, false
	switch m := m.(type) {
	case *commit.Identity:
		doubt = true // that is what the message says
	case *commit.Account:
		doubt = doubt || !m.Active // as when the account has moved
	}
	if doubt {
		if !h.isRelay() && !h.mayRefresh(ctx) {
			return outcome{hold: ctx.Err()}, false
		}
		if w, fresh, err = r.resolveAnew(ctx, a.did, w); err != nil {
			if _, isAccount := m.(*commit.Account); !isAccount || !unknown(err) || a.state.Host != h.name {
				return noIdentity(err), false
			}
			w = a.identity
		}
		a.identity = w
	}
	if h.isRelay() {
		if r.banned(w.host) != nil {
			return dropped(RuleHost), false // what a banned host says does not come by another way
		}
		return h.relayed(ctx, c, w.host)
	}
	if w.host != h.name {
		if !fresh && r.refresh.lastDone(string(a.did)).Before(it.at) { // it may have moved here since that was looked up
			return outcome{hold: &notYet{RuleHost, errElsewhere}}, false
		}
		return dropped(RuleHost), false
	}
	if a.state.Host != h.name || a.state.Unlisted {
		o, ok := h.enrol(ctx, c)
		if ok && stranger {
			h.refund()
		}
		return o, ok
	}
	return outcome{}, true
}

// errElsewhere: the document named another host a moment ago.
var errElsewhere = errors.New("relay: the account is at another host, as far as is known")

// relayed notes at which host an account is that a relay has brought. It does not count there
// before that host brings it itself, and no longer where it was.
func (h *host) relayed(ctx context.Context, c *change, at string) (outcome, bool) {
	s := &c.to.state
	if s.Host == at {
		return outcome{}, true
	}
	if s.Host != "" && !s.Unlisted {
		_, counts, err := h.r.ledger.enrol(ctx, c.to.did, s.Host, "", -1)
		if err != nil {
			return outcome{hold: err}, false
		}
		h.r.counted(counts)
		s.Throttled = false
	}
	s.Host, s.Unlisted = at, true
	return outcome{}, true
}

// enrol takes an account in that is new here, or has moved here.
func (h *host) enrol(ctx context.Context, c *change) (outcome, bool) {
	a := &c.to
	as, counts, err := h.r.ledger.enrol(ctx, a.did, a.state.Host, h.name, h.limits().Accounts)
	if err != nil {
		return outcome{hold: err}, false
	}
	h.r.counted(counts)
	if as == "" {
		return dropped(RuleLimit), false
	}
	if a.state.Host != "" && a.state.Host != h.name {
		a.state.Upstream = "" // of the host before
	}
	a.state.Host, a.state.Unlisted, a.state.Throttled = h.name, false, as == throttled
	return outcome{}, true
}

// unknown reports whether an error says that there is no such identity.
func unknown(err error) bool {
	for _, e := range []error{identity.ErrNotFound, identity.ErrTombstoned, identity.ErrInvalid, identity.ErrMethod, identity.ErrDocument, identity.ErrMismatch, identity.ErrTooLarge, identity.ErrAddress} {
		if errors.Is(err, e) {
			return !errors.Is(err, identity.ErrUnavailable)
		}
	}
	return false
}

// noIdentity is the outcome for a message whose account cannot be resolved: that may change, if
// nothing says that it will not.
func noIdentity(err error) outcome {
	if unknown(err) {
		if errors.Is(err, identity.ErrNotFound) {
			err = &notYet{RuleIdentity, err}
			return outcome{hold: err}
		}
		return dropped(RuleIdentity)
	}
	return outcome{hold: err}
}

// keyFunc is commit.Verifier.Key.
type keyFunc = func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error)

// key returns the key of the account of a change.
func (r *Relay) key(c *change) keyFunc {
	return func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
		if refresh {
			w, fresh, err := r.resolveAnew(ctx, did, c.to.identity)
			if err != nil {
				return nil, err
			}
			c.to.identity, c.keyUncertain = w, !fresh
		}
		if err := c.to.identity.err; err != nil {
			return nil, fmt.Errorf("%w: %w", commit.ErrNoKey, err)
		}
		return c.to.identity.key, nil
	}
}

// askEvery is how often a host is asked whether an account is active after all.
const askEvery = time.Minute

// silent returns the outcome for a message about the repository of an account of which nothing is
// passed on. An account that is not active says nothing; if it does, the message that it is active
// may have been lost, so its host is asked.
func (h *host) silent(a *account) (outcome, bool) {
	switch {
	case a.state.Throttled:
		return dropped(RuleLimit), true
	case a.state.Upstream != "":
		o := dropped(RuleInactive)
		o.repair = h.store.Load() == nil && !a.state.Desync && !h.r.asked.doneWithin(string(a.did), h.r.Now(), askEvery)
		return o, true
	}
	return outcome{}, false
}

// judge returns the outcome of an error of the verifier.
func (h *host) judge(c *change, err error) (outcome, verdict) {
	if errors.Is(err, commit.ErrNoKey) && !errors.Is(err, identity.ErrDocument) && !unknown(err) {
		return outcome{hold: err}, drop
	}
	rule, v := h.policy().judge(err)
	if rule == RuleSignature && c.keyUncertain {
		v = repair // the key may be a new one, and may not be asked for yet
	}
	o := outcome{result: Dropped, rule: rule, repair: v == repair}
	if v == pass {
		o.result = Passed
	}
	return o, v
}

// commit decides about a #commit.
func (h *host) commit(ctx context.Context, c *change, it *item, e *commit.Event) outcome {
	a := &c.to
	if o, silent := h.silent(a); silent {
		return o
	}
	if a.state.Desync {
		return dropped(RuleRepaired)
	}
	v := h.r.verifier(h.r.key(c))
	next, _, err := v.Commit(ctx, a.last(), e)
	o := outcome{result: Passed}
	if err != nil {
		var what verdict
		if o, what = h.judge(c, err); what != pass {
			return o
		}
	}
	block := commitBlock(e.Blocks, e.Commit)
	if err != nil && !errors.Is(err, commit.ErrOutOfSync) {
		// The signature stands, whatever the policy.
		if next, err = v.Sync(ctx, a.last(), &commit.Sync{DID: e.Repo, Rev: e.Rev, Commit: car.Block{CID: e.Commit, Data: block}}); err != nil {
			o, _ = h.judge(c, err)
			o.result = Dropped
			return o
		}
	}
	whole := o.rule == "" && (a.state.Described || a.head.Rev == "" && e.Since == "")
	a.head = storage.Head{Commit: e.Commit, Data: next.Data, Rev: next.Rev}
	a.state.Described, a.state.Rev = whole, ""
	c.commit = block
	c.emit(it.kind, it.payload, weight(e))
	if !h.r.NoCollections {
		c.collections(e, o.rule == "")
	}
	return o
}

// sync decides about a #sync.
func (h *host) sync(ctx context.Context, c *change, it *item, s *commit.Sync) outcome {
	a := &c.to
	if o, silent := h.silent(a); silent {
		return o
	}
	last := a.last()
	next, err := h.r.verifier(h.r.key(c)).Sync(ctx, last, s)
	if err != nil {
		o, _ := h.judge(c, err)
		o.result, o.repair = Dropped, o.repair && o.rule != RuleStale
		return o
	}
	if next == last && h.isRelay() {
		return dropped(RuleRepeated)
	}
	if next != last || a.state.Desync {
		a.head = storage.Head{Commit: s.Commit.CID, Data: next.Data, Rev: next.Rev}
		a.state.Desync, a.state.Described, a.state.Rev = false, false, ""
		c.commit = s.Commit.Data
	}
	c.emit(it.kind, it.payload, 1)
	return outcome{result: Passed}
}

// inFuture reports whether a message has a time that no later one would come after for long. Only
// relays' messages are put in order by their times, which nobody has signed.
func (r *Relay) inFuture(t time.Time) bool { return t.Sub(r.Now()) > commit.DefaultDrift }

// follows reports whether a host, which is no relay, is followed directly.
func (r *Relay) follows(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[name]
	return h != nil && h.started && !h.isRelay()
}

// identity decides about an #identity. The document was fetched anew.
func (h *host) identity(c *change, it *item, m *commit.Identity) outcome {
	if h.isRelay() {
		at := m.Time.UnixMilli()
		switch {
		case h.r.inFuture(m.Time):
			return dropped(RuleFuture)
		case at <= c.to.state.IdentityAt:
			return dropped(RuleRepeated)
		}
		c.to.state.IdentityAt = at
	}
	if c.to.state.Throttled {
		return dropped(RuleLimit)
	}
	c.emit(it.kind, it.payload, 1)
	return outcome{result: Passed}
}

// account decides about an #account.
func (h *host) account(c *change, it *item, m *commit.Account) outcome {
	s := &c.to.state
	status := m.Status
	switch {
	case m.Active:
		status = ""
	case status == "":
		status = "deactivated"
	case len(status) > 64:
		return dropped(RuleMalformed)
	}
	var at int64
	unfinished := c.to.tombstone != nil && c.to.tombstone.Pending // the deletion; this may be its message again
	if h.isRelay() {
		at = m.Time.UnixMilli()
		switch {
		case h.r.follows(c.to.state.Host):
			return dropped(RuleHost) // which says itself how its accounts are
		case h.r.inFuture(m.Time):
			return dropped(RuleFuture)
		case unfinished && status == commit.Deleted:
		case at <= s.AccountAt || c.to.exists && status == s.Upstream && s.AccountAt != 0:
			return dropped(RuleRepeated)
		}
	}
	if status == commit.Deleted {
		if s.Upstream == commit.Deleted && !unfinished {
			return dropped(RuleRepeated)
		}
		return outcome{result: Passed, remove: true, at: at}
	}
	s.AccountAt = max(s.AccountAt, at)
	s.Upstream = status
	if s.Throttled {
		return dropped(RuleLimit)
	}
	c.emit(it.kind, it.payload, 1)
	return outcome{result: Passed}
}
