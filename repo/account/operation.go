package account

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// An operation changes what an account is found by. It lasts longer than one transaction, so it
// leaves a note in the host's namespace until it has ended: see the package comment.
type operation struct {
	*Store
	did     syntax.DID
	id      string
	claims  []claim
	note    note
	renewed time.Time
}

// claim is a key that an operation wants for its account.
type claim struct {
	key   string
	taken error // if another account has it
}

// note is what is stored of an operation.
type note struct {
	// Keys are the name keys that the account may have before or after the operation. Those that it
	// does not have when the operation ends are released.
	Keys []string `json:"keys"`
	// Invite is the invite code used by the operation. The use is undone unless the operation made
	// the account.
	Invite string `json:"invite,omitempty"`
	// Makes is set if the operation makes the account, which is not counted yet.
	Makes bool `json:"makes,omitempty"`
	// Deletes is set if the operation deletes the account whose Made it names. If several
	// operations do, the first one to end counts the deletion and sets Deletes to nil in the
	// others.
	Deletes *string   `json:"deletes,omitempty"`
	At      time.Time `json:"at"`
	// Others counts the operations of the account that have ended since this one began. If it has
	// changed, what was read of the account is outdated.
	Others int `json:"others,omitempty"`
}

const pendingPrefix = "pending/"

// pendingLife is how long an operation may last between the note and the step. Whatever is older
// belongs to a process that has died.
const pendingLife = 10 * time.Minute

func pendingOf(did syntax.DID) string { return pendingPrefix + string(did) + "/" }

func (op *operation) key() string { return pendingOf(op.did) + op.id }

// covers reports whether the operation has claimed what a change adds to the keys of its account,
// and gives up what it takes away.
func (op *operation) covers(old, now []string) bool {
	if op == nil {
		return false
	}
	for _, key := range now {
		if !slices.Contains(old, key) && !slices.ContainsFunc(op.claims, func(c claim) bool { return c.key == key }) {
			return false
		}
	}
	for _, key := range old {
		if !slices.Contains(now, key) && !slices.Contains(op.note.Keys, key) {
			return false
		}
	}
	return true
}

// begin claims keys for an account and leaves the note of an operation. also, if not nil, is part
// of the transaction.
func (s *Store) begin(ctx context.Context, did syntax.DID, claims []claim, n note, also func(storage.KVTx) error) (*operation, error) {
	if err := s.migrate(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	over := len(s.unfinished) > 0
	s.mu.Unlock()
	if over {
		if err := s.finishAbandoned(ctx, did); err != nil {
			return nil, err
		}
	}
	op := &operation{Store: s, did: did, id: rand.Text(), claims: claims, note: n}
	for try := 0; ; try++ {
		err := op.claim(ctx, also)
		var held *heldError
		if !errors.As(err, &held) {
			return op, err
		}
		// Whoever holds it may be a process that has died.
		if try > 0 {
			return nil, held.taken
		}
		if err := s.finishAbandoned(ctx, held.owner); err != nil {
			return nil, err
		}
	}
}

// heldError: a key belongs to another account, which an operation may be about to change.
type heldError struct {
	owner syntax.DID
	taken error
}

func (e *heldError) Error() string { return e.taken.Error() }

// claim writes the claims and the note.
func (op *operation) claim(ctx context.Context, also func(storage.KVTx) error) error {
	op.renewed = op.now()
	op.note.At = op.renewed.UTC()
	return op.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for _, c := range op.claims {
			owner, err := tx.Get(ctx, c.key)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			if err == nil && string(owner) != string(op.did) {
				others, err := notes(ctx, tx, syntax.DID(owner))
				switch {
				case err != nil:
					return err
				case len(others) == 0:
					return c.taken
				}
				return &heldError{syntax.DID(owner), c.taken}
			}
			if err := tx.Set(ctx, c.key, []byte(op.did), time.Time{}); err != nil {
				return err
			}
		}
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		return putNote(ctx, tx, op.key(), op.note)
	})
}

// renew makes sure, before the step, that the claims still hold: an operation that took long may
// have been taken for one of a process that has died.
func (op *operation) renew(ctx context.Context) error {
	if age := op.now().Sub(op.renewed); age >= 0 && age < pendingLife/4 {
		return nil
	}
	err := op.claim(ctx, func(tx storage.KVTx) error {
		if op.note.Invite == "" {
			return nil
		}
		return keepInvite(ctx, tx, op.note.Invite, op.did, op.now())
	})
	var held *heldError
	if errors.As(err, &held) {
		return held.taken
	}
	return err
}

// notes returns the operations of an account that have not ended, by their keys.
func notes(ctx context.Context, r storage.KVReader, did syntax.DID) (map[string]note, error) {
	var m map[string]note
	for doc, err := range storedjson.Documents[note](ctx, r, pendingOf(did)) {
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = make(map[string]note)
		}
		m[doc.Key] = doc.Value
	}
	return m, nil
}

// finish ends an operation after its last step: what the account does not have is given up, and the
// note goes. It does not end with the caller's context. If the store fails, it is tried again by
// whoever wants the names, and by Repair.
func (op *operation) finish(ctx context.Context) error {
	err := op.settle(context.WithoutCancel(ctx), op.did, op.id)
	op.mu.Lock()
	defer op.mu.Unlock()
	if err == nil {
		delete(op.unfinished, op.key())
	} else if len(op.unfinished) < maxOver {
		op.unfinished[op.key()] = true
	}
	return err
}

// maxOver bounds how many operations are remembered that are over and could not be finished. Others
// are finished when they are old.
const maxOver = 10_000

func (s *Store) settle(ctx context.Context, did syntax.DID, id string) error {
	key := pendingOf(did) + id
	for {
		// The note is read before the account. Whoever else changes the account's names in between
		// ends an operation of their own after that, and leaves a mark in this note.
		var doc []byte
		err := s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
			doc, err = r.Get(ctx, key)
			return err
		})
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		var n note
		if err := json.Unmarshal(doc, &n); err != nil {
			return err
		}
		a, err := s.ByDID(ctx, did)
		if errors.Is(err, ErrNotFound) && n.Deletes != nil {
			err = s.sweep(ctx, did)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		changed := false
		err = s.store.KV.Write(ctx, func(tx storage.KVTx) error {
			now, err := tx.Get(ctx, key)
			if changed = err == nil && !bytes.Equal(now, doc); changed || errors.Is(err, storage.ErrNotFound) {
				return nil
			} else if err != nil {
				return err
			}
			return s.settleIn(ctx, tx, a, did, id, n)
		})
		if err != nil || !changed {
			return err
		}
	}
}

// errThere: there is a repository.
var errThere = errors.New("account: there is a repository")

// sweep deletes what a deletion that was interrupted has left beside the repository, if there is
// still none.
func (s *Store) sweep(ctx context.Context, did syntax.DID) error {
	err := s.host.DeleteStep(ctx, did, func(*repo.Step) error { return errThere })
	if errors.Is(err, errThere) || errors.Is(err, repo.ErrRepoNotFound) {
		return nil
	}
	return err
}

// settleIn is the transaction that ends an operation. a is the account as it is; the zero Account
// if there is none.
func (s *Store) settleIn(ctx context.Context, tx storage.KVTx, a Account, did syntax.DID, id string, n note) error {
	key := pendingOf(did) + id
	others, err := notes(ctx, tx, did)
	if err != nil {
		return err
	}
	delete(others, key)
	have := a.indexKeys()
	for _, k := range n.Keys {
		owner, err := tx.Get(ctx, k)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		switch mine := err == nil && string(owner) == string(did); {
		case slices.Contains(have, k):
			if err != nil { // nobody has it
				if err := tx.Set(ctx, k, []byte(did), time.Time{}); err != nil {
					return err
				}
			}
		case mine && !anyNote(others, func(o note) bool { return slices.Contains(o.Keys, k) }):
			if err := tx.Delete(ctx, k); err != nil {
				return err
			}
		}
	}
	if n.Invite != "" && a.Invite != n.Invite && !anyNote(others, func(o note) bool { return o.Invite == n.Invite }) {
		if err := returnInvite(ctx, tx, n.Invite, did); err != nil {
			return err
		}
	}
	count := 0
	if n.Makes && a.DID != "" && a.Made == id {
		count++
	}
	gone := n.Deletes != nil && (a.DID == "" || a.Made != *n.Deletes)
	if gone {
		count--
	}
	if err := addCount(ctx, tx, count); err != nil {
		return err
	}
	for k, o := range others {
		o.Others++
		switch {
		case o.Deletes == nil:
		case gone && *o.Deletes == *n.Deletes:
			o.Deletes = nil // counted here
		default:
			// The deletion compares nothing with the account. It may come after this change without
			// having seen it.
			o.Keys = union(o.Keys, n.Keys)
		}
		if err := putNote(ctx, tx, k, o); err != nil {
			return err
		}
	}
	return tx.Delete(ctx, key)
}

func anyNote(notes map[string]note, is func(note) bool) bool {
	for _, n := range notes {
		if is(n) {
			return true
		}
	}
	return false
}

// abandoned reports whether an operation is over though its note is there: it could not be
// finished, or is one of a process that has died. A note from the future was left by a clock that
// was ahead.
func (s *Store) abandoned(key string, n note) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unfinished[key] {
		return true
	}
	age := s.now().Sub(n.At)
	return age > pendingLife || age < -time.Minute
}

// finishAbandoned finishes the operations of an account that are over.
func (s *Store) finishAbandoned(ctx context.Context, did syntax.DID) error {
	var ids []string
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		list, err := notes(ctx, r, did)
		for key, n := range list {
			if s.abandoned(key, n) {
				ids = append(ids, strings.TrimPrefix(key, pendingOf(did)))
			}
		}
		return err
	})
	for _, id := range ids {
		if err == nil {
			err = (&operation{Store: s, did: did, id: id}).finish(ctx)
		}
	}
	return err
}
