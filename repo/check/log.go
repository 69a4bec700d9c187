package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/storage"
)

// events checks the log.
func (x *run) events(ctx context.Context) error {
	// The bounds come last: what is appended meanwhile is within them.
	var last int64
	for ev, err := range x.Store.Events.Since(ctx, 0) {
		if err != nil {
			return fmt.Errorf("event after %d: %w", last, err)
		}
		x.Events++
		if ev.First() <= last {
			x.Add(BadLog, ev.DID, "event %d, with numbers from %d on, comes after %d", ev.Seq, ev.First(), last)
		}
		last = ev.Seq
		if err := x.event(ctx, ev); err != nil {
			x.Add(BadEvent, ev.DID, "event %d: %v", ev.Seq, err)
		}
	}
	oldest, newest, err := x.Store.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	if oldest < 1 || newest < 0 || oldest > newest+1 {
		x.Add(BadLog, "", "the bounds of the event log are %d and %d", oldest, newest)
	} else if last > newest {
		x.Add(BadLog, "", "event %d comes after the newest, %d", last, newest)
	}
	return nil
}

func (x *run) event(ctx context.Context, ev storage.Event) error {
	msg, err := commit.Decode(ev.Kind, ev.Payload)
	if err != nil {
		return err
	}
	if about := msg.About(); about != ev.DID {
		return fmt.Errorf("the message is about another account, it is about %s", about)
	}
	var v commit.Verifier
	if x.opt.Strict && x.Key != nil {
		key, err := x.Key(ctx, ev.DID)
		if err != nil {
			return fmt.Errorf("signing key: %w", err)
		}
		if key != nil {
			v.Key = x.key
		}
	}
	switch msg := msg.(type) {
	case *commit.Event:
		v.Limits = commit.Limits{Ops: len(msg.Ops) + 1, Blocks: len(msg.Blocks) + 1}
		v.Now = msg.Rev.Time // a revision from the future is no damage: see Report.Ahead
		last, known := x.last[ev.DID]
		if !known || x.opt.Silent {
			last = commit.State{Rev: msg.Since, Data: msg.PrevData}
		}
		next, _, err := v.Commit(ctx, last, msg)
		return x.reached(ev, next, err)
	case *commit.Sync:
		v.Now = msg.Rev.Time
		next, err := v.Sync(ctx, commit.State{}, msg)
		return x.reached(ev, next, err)
	}
	return nil
}

// reached remembers to which state an event leads.
func (x *run) reached(ev storage.Event, next commit.State, err error) error {
	if x.last != nil && (err == nil || errors.Is(err, commit.ErrOutOfSync)) {
		x.last[ev.DID] = next
	}
	return err
}
