package repo

import (
	"context"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// EventOf returns a message as an event for the log. A commit takes one sequence number for each of
// its operations, so that views that show operations singly can number them: see
// [storage.Event.First].
func EventOf(m commit.Message) storage.Event {
	ev := storage.Event{DID: m.About(), Kind: m.Kind(), Time: m.At(), Payload: m.Payload()}
	if c, ok := m.(*commit.Event); ok {
		ev.Weight = min(max(1, len(c.Ops)), storage.MaxWeight)
	}
	return ev
}

// IdentityEvent returns an #identity event with the present time. It says that the account's DID
// document or handle may have changed. The handle may be empty.
func (h *Host) IdentityEvent(did syntax.DID, handle syntax.Handle) storage.Event {
	return EventOf(&commit.Identity{DID: did, Handle: handle, Time: h.now()})
}

// AccountEvent returns an #account event with the present time. An empty status means an active
// account. Other values say why it is not active: [commit.Deleted] in the last event of an account,
// or any other word that the host uses.
func (h *Host) AccountEvent(did syntax.DID, status string) storage.Event {
	return EventOf(&commit.Account{DID: did, Active: status == "", Status: status, Time: h.now()})
}

// SyncEvent returns a #sync event of a repository's present head, for a change without a commit:
// when an account becomes active again, or when a relay has lost track of it.
func (h *Host) SyncEvent(ctx context.Context, did syntax.DID) (ev storage.Event, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		block, err := r.Commit(ctx)
		ev = h.syncEvent(did, r.Head(), block)
		return err
	})
	return ev, err
}

// syncEvent announces a repository's head without operations.
func (h *Host) syncEvent(did syntax.DID, head storage.Head, block []byte) storage.Event {
	return EventOf(&commit.Sync{DID: did, Rev: head.Rev, Commit: car.Block{CID: head.Commit, Data: block}, Time: h.now()})
}
