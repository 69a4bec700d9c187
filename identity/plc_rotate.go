package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// ErrRotationKey: none of the keys is a rotation key of the DID, so that they cannot sign for it.
var ErrRotationKey = errors.New("identity: not a rotation key of the DID")

// PLCDirectory is a did:plc directory that can be written to: a [PLCClient], or what stands in for
// one. It must be safe for concurrent use, and return errors of this package with the meaning that
// they have for PLCClient.
type PLCDirectory interface {
	// Last returns the last valid operation of a DID.
	Last(ctx context.Context, did syntax.DID) (*PLCOperation, error)
	// Submit sends a signed operation.
	Submit(ctx context.Context, did syntax.DID, op *PLCOperation) error
}

var _ PLCDirectory = (*PLCClient)(nil)

// SubmitPLC sends a signed operation to a directory. It may be sent again: an operation that is the
// DID's last one already is a success. So is one whose answer was lost, if the directory can be
// asked and has it. If it cannot, the error is [ErrUnavailable], and the operation may have been
// accepted nevertheless. A refusal is [ErrOperation].
func SubmitPLC(ctx context.Context, plc PLCDirectory, did syntax.DID, op *PLCOperation) error {
	err := plc.Submit(ctx, did, op)
	if op == nil || !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrOperation) {
		return err
	}
	sent, cidErr := op.CID()
	last, lastErr := plc.Last(ctx, did)
	if cidErr != nil || lastErr != nil {
		return err
	}
	if have, _ := last.CID(); have != sent {
		return err
	}
	return nil
}

// rotateTries bounds how often Rotate begins again because somebody else was faster.
const rotateTries = 3

// Rotate changes a did:plc: its handle, server, signing key or rotation keys. It asks the directory
// for the last operation and gives change one that follows it, with the same state. What change
// makes of it is checked as the directory would, signed with the one of the keys that has most
// authority over the DID, and sent. Rotate returns when the directory has it, and reports whether
// it did anything: a change that changes nothing is not sent, and needs no key.
//
// If somebody else changes the DID at the same moment, Rotate begins again from what they made of
// it: change may be called more than once. An answer that is lost does not leave open whether the
// operation was accepted: see [SubmitPLC].
//
// Errors are those of change, [ErrRotationKey], [ErrOperation] for a state that no directory
// accepts, [ErrTombstoned], and those of [SubmitPLC]. After [ErrUnavailable] the same call
// may be made again: it does nothing if the first one took effect.
func Rotate(ctx context.Context, plc PLCDirectory, did syntax.DID, change func(op *PLCOperation) error, keys ...crypto.Signer) (changed bool, err error) {
	for try := 1; ; try++ {
		last, err := plc.Last(ctx, did)
		if err != nil {
			return false, err
		}
		op, err := follow(last, change)
		if err != nil {
			return false, err
		}
		if op.sameState(last) {
			return false, nil
		}
		if err := op.signAfter(ctx, last, keys); err != nil {
			return false, err
		}
		if err = SubmitPLC(ctx, plc, did, op); err == nil {
			return true, nil
		}
		if !errors.Is(err, ErrOperation) || try == rotateTries {
			return false, err
		}
		// It was refused. That is final, unless it no longer follows the last operation.
		now, lastErr := plc.Last(ctx, did)
		if lastErr != nil {
			return false, err
		}
		if have, _ := now.CID(); have == op.Prev {
			return false, err
		}
	}
}

// SignRotation returns the operation that [Rotate] would send, signed, for somebody else to send.
// It is signed also if it changes nothing. Errors are those of Rotate.
func SignRotation(ctx context.Context, plc PLCDirectory, did syntax.DID, change func(op *PLCOperation) error, keys ...crypto.Signer) (*PLCOperation, error) {
	last, err := plc.Last(ctx, did)
	if err != nil {
		return nil, err
	}
	op, err := follow(last, change)
	if err != nil {
		return nil, err
	}
	return op, op.signAfter(ctx, last, keys)
}

// follow returns an operation that follows the last one, as change makes it.
func follow(last *PLCOperation, change func(op *PLCOperation) error) (*PLCOperation, error) {
	op, err := last.Next()
	if err != nil {
		return nil, err
	}
	prev := op.Prev
	if err := change(op); err != nil {
		return nil, err
	}
	if op.Type != PLCUpdate || op.Prev != prev {
		return nil, fmt.Errorf("%w: the change is another operation, not another state", ErrOperation)
	}
	return op, nil
}

// sameState reports whether an operation brings about the state that last has.
func (op *PLCOperation) sameState(last *PLCOperation) bool {
	was := last.normalized()
	return slices.Equal(op.RotationKeys, was.RotationKeys) && slices.Equal(op.AlsoKnownAs, was.AlsoKnownAs) &&
		maps.Equal(op.VerificationMethods, was.VerificationMethods) && maps.Equal(op.Services, was.Services)
}

// signAfter checks an operation and signs it with the first rotation key of last that is at hand.
func (op *PLCOperation) signAfter(ctx context.Context, last *PLCOperation, keys []crypto.Signer) error {
	for _, key := range last.normalized().RotationKeys {
		i := slices.IndexFunc(keys, func(s crypto.Signer) bool { return s != nil && s.PublicKey().DIDKey() == key })
		if i < 0 {
			continue
		}
		if err := op.Validate(); err != nil {
			return err
		}
		return op.Sign(ctx, keys[i])
	}
	return fmt.Errorf("%w: none of %d keys", ErrRotationKey, len(keys))
}

// ReplaceRotationKeys puts a rotation key in the place of the first one that is among others, and
// removes the rest of others. All further rotation keys stay where they are. It reports whether one
// of others was there.
func (op *PLCOperation) ReplaceRotationKeys(to *crypto.PublicKey, from ...*crypto.PublicKey) (found bool) {
	var keys []string
	for _, key := range op.RotationKeys {
		if slices.ContainsFunc(from, func(old *crypto.PublicKey) bool { return old.DIDKey() == key }) {
			key, found = to.DIDKey(), true
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if found {
		op.RotationKeys = keys
	}
	return found
}
