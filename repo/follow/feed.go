package follow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// A Feed yields the changes of an index of records. The package comment says what the index must
// store.
type Feed struct {
	// Store is the store of the host. Repos and Events are required.
	Store storage.Store
	// Position returns the position that the index has stored with its rows, or "". It is called
	// once, at the start. Required.
	Position func(ctx context.Context) (string, error)
	// Revision returns the revision that the index has stored for an account, or "". It must see
	// what earlier steps have stored. Required.
	Revision func(ctx context.Context, did syntax.DID) (syntax.TID, error)
	// Status returns the status of an account in a snapshot of its repository: empty if it is
	// active, else the reason. With package account, use Store.AccountIn. Nil: a Reset has no
	// status; it is then unknown until the next #account event.
	Status func(ctx context.Context, r storage.Reader) (string, error)
	// Collections limits the steps to records of these collections. Nil: all.
	Collections []syntax.NSID
}

// Step is a change of an index. All of it belongs in one transaction.
type Step struct {
	// Position is to be stored with the rows. It is a short opaque text.
	Position string
	// DID is the account of the step. Rev is the revision of its rows after the step, to be stored
	// for it; it is empty if the account has no rows.
	DID syntax.DID
	Rev syntax.TID
	// Reset means that the account's rows must be deleted before Ops are carried out. A snapshot of
	// the repository is open until the loop continues.
	Reset bool
	// Ops are the changes of records. In a Reset they are a Create for each record, in path order,
	// read from the snapshot during the loop. Ops may be ranged over more than once, but only
	// before the loop continues with the next step.
	Ops iter.Seq2[Op, error]
	// Account is the status of the account, if the step has it: from an #account event or, in a
	// Reset, from Feed.Status. Otherwise it is nil.
	Account *commit.Account
	// Event is the event of the step. Its Seq is 0 in a step without an event, at the beginning of
	// a feed without a position.
	Event Event
}

// Steps yields the steps that bring the index up to date, and waits for more until the context
// ends. A step counts as done when the loop asks for the next one, so a loop that fails to store a
// step must break. Several steps may share a transaction if Revision reads in that transaction.
// Only one loop at a time may feed an index.
//
// Each event has a step, even if it changes only the position. Errors are those of [Events], those
// of the feed's functions, and one that matches [ErrPosition] for an invalid position. Steps panics
// if a required field is missing.
func (f Feed) Steps(ctx context.Context) iter.Seq2[*Step, error] {
	switch {
	case f.Store.Repos == nil || f.Store.Events == nil:
		panic("follow: Feed.Store needs Repos and Events")
	case f.Position == nil:
		panic("follow: Feed.Position is missing: a function that returns the stored position")
	case f.Revision == nil:
		panic("follow: Feed.Revision is missing: a function that returns the stored revision of an account")
	}
	return func(yield func(*Step, error) bool) {
		if err := f.run(ctx, func(s *Step) bool { return yield(s, nil) }); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// errStop: the loop has ended.
var errStop = errors.New("follow: stop")

func (f Feed) run(ctx context.Context, yield func(*Step) bool) error {
	text, err := f.Position(ctx)
	if err != nil {
		return err
	}
	at, err := parsePosition(text)
	if err != nil {
		return err
	}
	if text == "" {
		if _, at.seq, err = f.Store.Events.Bounds(ctx); err != nil {
			return err
		}
		at.filling = true
	}
	if err := covers(ctx, f.Store.Events, at.seq); err != nil {
		return err
	}
	if at.filling {
		if err := f.fill(ctx, at, yield); err != nil {
			return err
		}
	}
	for ev, err := range Events(ctx, f.Store.Events, at.seq) {
		if err == nil {
			err = f.step(ctx, ev, yield)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// position is a place in the log or, while the index is filled, the place from which the log is to
// be read afterwards and the last account that was filled in.
type position struct {
	seq     int64
	filling bool
	did     syntax.DID
}

func (p position) String() string {
	if p.filling {
		return fmt.Sprintf("%d %s", p.seq, p.did)
	}
	return strconv.FormatInt(p.seq, 10)
}

func parsePosition(s string) (p position, err error) {
	if s == "" {
		return p, nil
	}
	seq, did, filling := strings.Cut(s, " ")
	p.filling = filling
	if p.seq, err = strconv.ParseInt(seq, 10, 64); err == nil && filling {
		p.did, err = syntax.ParseDID(did)
	}
	if err != nil {
		return position{}, fmt.Errorf("%w: %.80q: %w", ErrPosition, s, err)
	}
	return p, nil
}

// fill yields a Reset for each account.
func (f Feed) fill(ctx context.Context, at position, yield func(*Step) bool) error {
	const pageAccounts = 256
	for {
		var page []syntax.DID
		for info, err := range f.Store.Repos.List(ctx, at.did) {
			if err != nil {
				return err
			}
			if info.Head == (storage.Head{}) {
				continue
			}
			if page = append(page, info.DID); len(page) == pageAccounts {
				break
			}
		}
		if len(page) == 0 {
			return nil
		}
		for _, did := range page {
			at.did = did
			if _, err := f.reset(ctx, &Step{Position: at.String(), DID: did}, yield); err != nil {
				return err
			}
		}
	}
}

// step yields the step of an event.
func (f Feed) step(ctx context.Context, ev Event, yield func(*Step) bool) error {
	rev, err := f.Revision(ctx, ev.DID)
	if err != nil {
		return err
	}
	s := &Step{Position: position{seq: ev.Seq}.String(), DID: ev.DID, Rev: rev, Ops: f.list(nil), Event: ev}
	whole := false
	switch msg := ev.Message.(type) {
	case *commit.Event:
		switch {
		case rev != "" && msg.Rev <= rev: // a snapshot had it
		case msg.Since == rev:
			s.Rev, s.Ops = msg.Rev, f.list(ev.Ops)
		default:
			whole = true
		}
	case *commit.Sync:
		whole = msg.Rev != rev
	case *commit.Account:
		s.Account = msg
		if msg.Status == commit.Deleted && !msg.Active {
			s.Reset, s.Rev = true, ""
		} else {
			whole = rev == "" // it may have been made silently
		}
	}
	if whole {
		if found, err := f.reset(ctx, s, yield); err != nil || found {
			return err
		}
		// The account has been deleted since. The event that says so comes later.
	}
	if !yield(s) {
		return errStop
	}
	return nil
}

// reset makes a step a Reset and yields it, if there is a repository.
func (f Feed) reset(ctx context.Context, s *Step, yield func(*Step) bool) (found bool, err error) {
	err = f.Store.Repos.View(ctx, s.DID, func(r storage.Reader) error {
		found = true
		s.Reset, s.Rev, s.Ops = true, r.Head().Rev, f.records(ctx, r)
		if f.Status != nil {
			status, err := f.Status(ctx, r)
			if err != nil {
				return err
			}
			s.Account = &commit.Account{DID: s.DID, Active: status == "", Status: status}
		}
		if !yield(s) {
			return errStop
		}
		return nil
	})
	if !found && errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return found, err
}

// list yields the operations of the feed's collections.
func (f Feed) list(ops []Op) iter.Seq2[Op, error] {
	return func(yield func(Op, error) bool) {
		for _, op := range ops {
			if f.Collections != nil && !slices.Contains(f.Collections, op.Collection) {
				continue
			}
			if !yield(op, nil) {
				return
			}
		}
	}
}

// records yields the records of a snapshot that are in the feed's collections.
func (f Feed) records(ctx context.Context, r storage.Reader) iter.Seq2[Op, error] {
	ranges := []storage.Range{{}}
	if f.Collections != nil {
		ranges = ranges[:0]
		for _, c := range slices.Sorted(slices.Values(f.Collections)) {
			ranges = append(ranges, storage.Prefix(string(c)+"/"))
		}
		ranges = slices.Compact(ranges)
	}
	return func(yield func(Op, error) bool) {
		for _, rng := range ranges {
			for rec, err := range r.Records(ctx, rng) {
				op := Op{Action: commit.Create, CID: rec.CID, Record: rec.Data}
				if err == nil {
					op.Collection, op.RKey, err = syntax.ParsePath(rec.Path)
				}
				if err != nil {
					yield(Op{}, err)
					return
				}
				if !yield(op, nil) {
					return
				}
			}
		}
	}
}
