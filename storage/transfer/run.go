package transfer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const (
	// chunk is after how many accounts the place is noted at which to go on.
	chunk = 256
	// quick is how long a round may take after which the source is shut.
	quick = 2 * time.Second
	// longest is how long the last round before may take if there are always more changes.
	longest = 15 * time.Second
)

// Copy copies the store, and catches up with changes. The source stays in use and continues to note
// changes. Call Copy again to catch up, and Finish to end the move.
func (m *Mover) Copy(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	if m.mark.State != loading {
		return m.wrongState()
	}
	if err := m.copyAll(ctx); err != nil {
		return err
	}
	_, err := m.catchUp(ctx)
	return err
}

// wrongState is the error of a step that the target's state does not allow.
func (m *Mover) wrongState() error {
	return fmt.Errorf("transfer: the target is %q: finish the move", m.mark.State)
}

// reopen lets the source take writes again, unless that is for another Mover to say.
func (m *Mover) reopen(ctx context.Context) error {
	if err := m.checkOwner(ctx); err != nil {
		return err
	}
	if err := m.from.Watch(ctx, m.note.String()); err != nil {
		return err
	}
	m.shut = false
	return nil
}

// copyAll copies everything once, from where it was interrupted.
func (m *Mover) copyAll(ctx context.Context) error {
	if m.mark.All {
		return nil
	}
	m.phase(Copying)
	for more := true; more; {
		list, next, err := m.repos(ctx, syntax.DID(m.mark.After), chunk)
		if err == nil {
			err = m.each(ctx, list, m.account)
		}
		if err != nil {
			return err
		}
		if more = next != ""; more {
			k := m.mark
			k.After = string(next)
			if err := m.setMark(ctx, k); err != nil {
				return err
			}
		}
	}
	if err := m.allHostKeys(ctx); err != nil {
		return err
	}
	if err := m.log(ctx); err != nil {
		return err
	}
	// Of a target that was given up and is used again: what has become unreadable since.
	if _, err := m.compareLog(ctx, 0, math.MaxInt64, false); err != nil {
		return err
	}
	k := m.mark
	k.All, k.After = true, ""
	return m.setMark(ctx, k)
}

// catchUp copies what was noted, round by round, until a round is short. It returns how many
// changes the last one has found.
func (m *Mover) catchUp(ctx context.Context) (n int, err error) {
	m.phase(CatchingUp)
	for i := range m.cfg.Rounds {
		began := time.Now()
		if n, err = m.round(ctx); err != nil {
			return n, err
		}
		if took := time.Since(began); n == 0 || i > 0 && took < quick || i == m.cfg.Rounds-1 && took < longest {
			return n, nil
		}
	}
	return n, ErrBehind
}

// round copies what was noted, and the newest events.
func (m *Mover) round(ctx context.Context) (n int, err error) {
	if err := m.checkOwner(ctx); err != nil {
		return 0, err
	}
	var list []storage.Changed
	for c, err := range m.from.Changed(ctx) {
		if err != nil {
			return n, err
		}
		n++
		if list = append(list, c); len(list) == chunk {
			if err := m.settle(ctx, list); err != nil {
				return n, err
			}
			list = nil
		}
	}
	if err := m.settle(ctx, list); err != nil {
		return n, err
	}
	return n, m.log(ctx)
}

// settle copies what some notes are about, and then removes them. What has changed since is noted
// anew, and so stays.
func (m *Mover) settle(ctx context.Context, list []storage.Changed) error {
	if len(list) == 0 {
		return nil
	}
	var accounts, gone []syntax.DID
	var keys []string
	for _, c := range list {
		switch c.Kind {
		case storage.ChangedAccount:
			accounts = append(accounts, syntax.DID(c.Name))
		case storage.ChangedEvents:
			gone = append(gone, syntax.DID(c.Name))
		case storage.ChangedKey:
			keys = append(keys, c.Name)
		}
	}
	if err := m.each(ctx, accounts, m.account); err != nil {
		return err
	}
	for _, did := range gone {
		if err := m.eventsGone(ctx, did); err != nil {
			return err
		}
	}
	if err := m.hostKeys(ctx, keys); err != nil {
		return err
	}
	return m.from.Settle(ctx, list)
}

// Finish ends the move: it copies the rest, verifies the target, makes the source refuse writes for
// a moment, and marks the target as ready. It may be called without Copy, and again after any
// interruption. If it returns an error, the source accepts writes again, unless the error says that
// the target is ready.
func (m *Mover) Finish(ctx context.Context) (Report, error) {
	err := m.finish(ctx)
	r := m.Report()
	r.Pause = m.pause
	return r, err
}

func (m *Mover) finish(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	if m.note.Left {
		m.phase(Done)
		return nil
	}
	if m.mark.State == loading {
		if err := m.prepare(ctx); err != nil {
			return err
		}
		if err := m.cutOver(ctx); err != nil {
			return err
		}
	}
	if m.mark.State == givenUp {
		return m.wrongState()
	}
	m.phase(Done)
	return m.handOver(ctx)
}

// prepare copies and verifies while the source is in use.
func (m *Mover) prepare(ctx context.Context) error {
	if err := m.copyAll(ctx); err != nil {
		return err
	}
	if _, err := m.catchUp(ctx); err != nil {
		return err
	}
	if err := m.verifyAll(ctx); err != nil {
		return err
	}
	if n := len(m.Report().Damaged); n > 0 && !m.cfg.AcceptDamaged {
		return fmt.Errorf("%w: %d", ErrDamagedBlobs, n)
	}
	for range 2 {
		if _, err := m.catchUp(ctx); err != nil {
			return err
		}
		if err := m.verifyChanged(ctx); err != nil {
			return err
		}
	}
	_, err := m.catchUp(ctx)
	return err
}

// cutOver shuts the source, copies and verifies what is left, and marks the target. If that fails,
// the source is opened again.
func (m *Mover) cutOver(ctx context.Context) (err error) {
	m.phase(Finishing)
	if err := m.checkOwner(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := m.from.Shut(ctx, m.note.String()); err != nil {
		return errors.Join(err, m.reopen(context.WithoutCancel(ctx)))
	}
	m.shut = true
	marked := false
	defer func() {
		m.pause = time.Since(began)
		if err != nil && !marked {
			err = errors.Join(err, m.reopen(context.WithoutCancel(ctx)))
		}
	}()
	for n := 1; n > 0; {
		if n, err = m.round(ctx); err != nil {
			return err
		}
	}
	if err := m.verifyRest(ctx); err != nil {
		return err
	}
	if m.cfg.OnlyBlobs {
		return nil // the source itself says so: see handOver
	}
	if err := m.checkOwner(ctx); err != nil {
		return err
	}
	k := m.mark
	k.State = ready
	marked = true // or perhaps: so the source must not be opened again
	if err := m.setMark(ctx, k); err != nil {
		if errors.Is(err, ErrTakenOver) {
			return err
		}
		return fmt.Errorf("transfer: the target may be ready: finish the move again: %w", err)
	}
	return nil
}

// handOver notes at the source that the target has replaced the source.
func (m *Mover) handOver(ctx context.Context) error {
	if err := m.checkOwner(ctx); err != nil {
		return err
	}
	n := m.note
	n.Left = true
	if err := m.from.Shut(ctx, n.String()); err != nil {
		return fmt.Errorf("transfer: the target is ready: finish the move again: %w", err)
	}
	m.note = n
	return nil
}

// Abort ends the move without its effect. After Finish, it is possible until a server uses the
// target. The source accepts writes again. The target keeps what was copied, and a later move of
// the same source can use it. With force, the target is not accessed, in case it is lost.
func (m *Mover) Abort(ctx context.Context, force bool) error {
	w, err := m.from.Watched(ctx)
	if err != nil {
		return err
	}
	if w.State == storage.Unwatched {
		return ErrNone
	}
	if m.note, err = parseNote(w.Note); err != nil {
		return err
	}
	if !force {
		if m.mark, err = readMark(ctx, m.marks()); err != nil {
			return err
		}
		switch {
		case m.mark.Move != m.note.ID:
			return fmt.Errorf("%w: %s", ErrOther, m.note.Name)
		case m.mark.State == taken:
			return ErrTaken
		case m.mark.State != givenUp:
			k := m.mark
			k.State, k.All, k.After = givenUp, false, ""
			if err := m.setMark(ctx, k); err != nil {
				return err
			}
		}
	}
	return m.from.Unwatch(ctx)
}
