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

// ErrRotationKey: none of the given keys is a rotation key of the DID, so they cannot sign for it.
var ErrRotationKey = errors.New("identity: not a rotation key of the DID")

// PLCDirectory is a did:plc directory that can be written: a [PLCClient] or a substitute. It must
// be safe for concurrent use, and return this package's errors with the same meaning as PLCClient.
type PLCDirectory interface {
	// Last returns the last valid operation of a DID.
	Last(ctx context.Context, did syntax.DID) (*PLCOperation, error)
	// Submit sends a signed operation.
	Submit(ctx context.Context, did syntax.DID, op *PLCOperation) error
}

var _ PLCDirectory = (*PLCClient)(nil)

// SubmitPLC sends a signed operation to a directory. It is idempotent: if the operation is already
// the DID's last one, SubmitPLC succeeds. If the response is lost, SubmitPLC asks the directory
// whether it has the operation. If the directory does not answer, the error is [ErrUnavailable],
// and the operation may have been accepted. If the directory refuses the operation, the error is
// [ErrOperation].
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

// Rotate changes a did:plc: its handle, server, signing key or rotation keys. It fetches the last
// operation from the directory, and calls change with an operation that follows it and has the same
// state. It validates the changed operation as the directory would, signs it with the key of the
// highest authority among keys, and sends it. Rotate returns when the directory has the operation,
// and reports whether it sent one. An operation that changes nothing is not sent and needs no key.
//
// If somebody else changes the DID concurrently, Rotate begins again from the new state, so change
// may be called more than once. If a response is lost, Rotate finds out whether the operation was
// accepted: see [SubmitPLC].
//
// Errors are those of change, [ErrRotationKey], [ErrOperation] for a state that no directory
// accepts, [ErrTombstoned], and those of [SubmitPLC]. After [ErrUnavailable], make the same call
// again: it does nothing if the first one took effect.
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

// SignRotation returns the signed operation that [Rotate] would send, for somebody else to send. It
// signs the operation even if that changes nothing. Errors are those of Rotate.
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

// ReplaceRotationKeys replaces the first rotation key that is in from with the key to, and removes
// the other keys in from. All other rotation keys keep their order. It reports whether a key in
// from was found.
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
