package mailqueue

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
)

// Letter describes a message to an operator, without its text, which may contain a token.
type Letter struct {
	ID    string          `json:"id"`
	State queue.State     `json:"state"`
	Kind  server.MailKind `json:"kind,omitempty"`
	To    string          `json:"to,omitempty"`
	DID   syntax.DID      `json:"did,omitempty"`
	// Subject is the subject of the message. If the message cannot be opened, Subject and the
	// fields above it are empty.
	Subject string    `json:"subject,omitempty"`
	Tries   int       `json:"tries"`
	Since   time.Time `json:"since"`
	// Next is when it is tried again, or when its current attempt ends; zero if it is dead.
	Next    time.Time `json:"next,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Error   string    `json:"error,omitempty"`
}

// Letters yields all messages in the queue, oldest first. The loop may call any method.
func (q *Queue) Letters(ctx context.Context) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		for e, err := range q.queue.Entries(ctx) {
			if err != nil {
				yield(Letter{}, err)
				return
			}
			l := Letter{ID: e.ID, State: e.State, Tries: e.Attempts, Since: e.Enqueued, Next: e.Due, Error: q.openError(e.ID, e.Error)}
			if e.State == queue.Buried {
				l.Next = time.Time{}
			}
			if kept, err := q.open(e.ID, e.Body); err == nil {
				l.Kind, l.To, l.DID, l.Subject, l.Expires = kept.Mail.Kind, kept.Mail.To, kept.Mail.DID, kept.Mail.Subject, kept.Expires
			} else {
				l.Error = err.Error()
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

// find returns the message of an ID, or storage.ErrNotFound.
func (q *Queue) find(ctx context.Context, id string) (Letter, error) {
	for l, err := range q.Letters(ctx) {
		if err != nil || l.ID == id {
			return l, err
		}
	}
	return Letter{}, fmt.Errorf("%w: no message has the ID %.200q", storage.ErrNotFound, id)
}

// ErrExpired: a message is too old to be sent again.
var ErrExpired = fmt.Errorf("mailqueue: %w", errOld)

// Retry makes a waiting or dead message due now. If it is too old, the error is ErrExpired: a token
// in it is void, so the account's owner should request another one. If it does not exist or is
// being sent, the error is storage.ErrNotFound.
func (q *Queue) Retry(ctx context.Context, id string) error {
	l, err := q.find(ctx, id)
	switch {
	case err != nil:
		return err
	case !l.Expires.IsZero() && !q.now().Before(l.Expires):
		return fmt.Errorf("%w: it was good until %s", ErrExpired, l.Expires.UTC().Format(time.RFC3339))
	}
	if err := q.queue.Hurry(ctx, id); err != nil {
		return err
	}
	q.kick()
	return nil
}

// Drop deletes a message. If it does not exist, the error is storage.ErrNotFound.
func (q *Queue) Drop(ctx context.Context, id string) error {
	if _, err := q.find(ctx, id); err != nil {
		return err
	}
	return q.queue.Drop(ctx, id)
}

// Reseal seals all messages that are sealed with an old key again, with the first key of the Box,
// and returns their number. Use it when keys are replaced, while no server uses the store.
func (q *Queue) Reseal(ctx context.Context) (n int, err error) {
	if err := q.outbox.Recover(ctx, 0); err != nil {
		return 0, err
	}
	for e, err := range q.queue.Entries(ctx) {
		if err != nil {
			return n, err
		}
		if !q.cfg.Box.Stale(e.Body) {
			continue
		}
		resealed, err := q.cfg.Box.Reseal(place(e.ID), e.Body)
		if err != nil {
			continue // no key opens it: Run gives it up
		}
		if err := q.queue.Rewrite(ctx, e.ID, resealed); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
