package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// Rules of the Sync specification's message validation checklist. Proofs of records must follow
// them too where they apply. A *RuleError wraps one of these, or ErrNoRecord; test with errors.Is.
var (
	ErrSize         = errors.New("message exceeds a size limit")
	ErrBlocks       = errors.New("blocks are not a CAR file with the commit as its first root")
	ErrCommitBlock  = errors.New("commit object is malformed")
	ErrFields       = errors.New("message fields differ from the commit object")
	ErrNoKey        = errors.New("account has no signing key")
	ErrBadSignature = errors.New("signature is not by the account's key")
	ErrStale        = errors.New("revision is not newer than the last one")
	ErrFuture       = errors.New("revision is in the future")
	ErrOp           = errors.New("operation is malformed")
	ErrRecord       = errors.New("record block is missing, too large or not canonical CBOR")
	ErrTree         = errors.New("tree is malformed or not complete enough to check")
	ErrInversion    = errors.New("operations do not lead from the tree before to the tree after")
	ErrOutOfSync    = errors.New("commit does not follow the last known state")
)

// RuleError says which rule a message or proof breaks, and how.
type RuleError struct {
	Rule   error // one of the errors above
	Repo   syntax.DID
	Rev    syntax.TID // empty if that is not known
	Detail error      // may be nil
}

func (e *RuleError) Error() string {
	at := ""
	if e.Rev != "" {
		at = " at " + string(e.Rev)
	}
	msg := fmt.Sprintf("commit: %s%s: %v", e.Repo, at, e.Rule)
	if e.Detail != nil {
		msg += ": " + e.Detail.Error()
	}
	return msg
}

// Unwrap returns the rule and the detail.
func (e *RuleError) Unwrap() []error {
	if e.Detail == nil {
		return []error{e.Rule}
	}
	return []error{e.Rule, e.Detail}
}

// State is what a follower of a repository must remember: the last commit that it accepted. The
// zero State means that the repository was not seen yet.
type State struct {
	Rev  syntax.TID
	Data cid.Cid
}

// Verifier checks #commit and #sync messages. It has no state of its own, so one Verifier serves
// any number of repositories concurrently. The messages of one repository must be checked in order.
// To check many messages at once, use [Verifier.CommitAll].
//
// It does not check the sender: whether the sender hosts the account, whether the account is
// active, and rate limits are up to the caller.
type Verifier struct {
	// Key returns an account's signing key, or an error that wraps ErrNoKey. If a signature does
	// not verify, Key is called once more with refresh set; then it must not answer from a cache.
	// Nil: signatures are not checked.
	Key func(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error)
	// Drift is how far in the future a revision may be. 0: DefaultDrift.
	Drift time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Limits bounds messages.
	Limits Limits
}

// Commit checks a #commit message against the last state of its repository. It returns the new
// state, and the message's records by their paths.
//
// If the message is valid but does not follow that state, because a message was lost, the error
// wraps ErrOutOfSync. The new state is returned nevertheless; fetch the repository again. Ignore
// messages with the error ErrStale.
func (v *Verifier) Commit(ctx context.Context, last State, e *Event) (State, map[string][]byte, error) {
	fail := func(rule, detail error) (State, map[string][]byte, error) {
		return last, nil, &RuleError{rule, e.Repo, e.Rev, detail}
	}
	if e == nil {
		return last, nil, fmt.Errorf("%w: there is none", ErrMessage)
	}
	if tooLarge(e, v.Limits.withDefaults()) {
		return fail(ErrSize, nil)
	}
	if last.Rev != "" && e.Rev <= last.Rev {
		return fail(ErrStale, nil)
	}
	a, rule, err := v.verifyMessage(e, func(c Commit) error { return v.signature(ctx, c) })
	if rule != nil {
		return fail(rule, err)
	}
	return a.after(last, e)
}

// tooLarge reports whether a message is over its limits.
func tooLarge(e *Event, lim Limits) bool {
	return len(e.Ops) > lim.Ops || len(e.Blocks) > lim.Blocks
}

// accepted is a message that is valid by itself, whatever came before.
type accepted struct {
	commit  Commit
	before  cid.Cid // the tree before, which is that of prevData
	records map[string][]byte
}

// verifyMessage checks all of a message that does not depend on the last state of its repository. rule is
// nil if it is valid.
func (v *Verifier) verifyMessage(e *Event, signature func(Commit) error) (a accepted, rule, err error) {
	if inFuture(e.Rev, v.Now, v.Drift) {
		return a, ErrFuture, nil
	}
	roots, all, err := car.ReadAll(e.Blocks, car.Limits{})
	if err != nil {
		return a, ErrBlocks, err
	}
	blocks := newBlockSet(all)
	object, ok := blocks.find(e.Commit)
	if !ok || len(roots) == 0 || roots[0] != e.Commit {
		return a, ErrBlocks, nil
	}
	if a.commit, err = Parse(object); err != nil {
		return a, ErrCommitBlock, err
	}
	if a.commit.DID != e.Repo || a.commit.Rev != e.Rev {
		return a, ErrFields, nil
	}
	ops, records, rule, err := checkOps(e.Ops, blocks, v.Limits.withDefaults())
	if err != nil {
		return a, rule, err
	}
	if err := signature(a.commit); errors.Is(err, crypto.ErrSignature) {
		return a, ErrBadSignature, nil
	} else if err != nil {
		return a, ErrNoKey, err
	}
	a.before, a.records = a.commit.Data, records
	if len(ops) > 0 {
		if a.before, err = invert(blocks, a.commit.Data, ops); errors.Is(err, mst.ErrMismatch) {
			return a, ErrInversion, err
		} else if err != nil {
			return a, ErrTree, err
		}
	}
	prev := e.PrevData
	if !prev.Defined() {
		prev = mst.Empty().Root()
	}
	if a.before != prev {
		return a, ErrInversion, fmt.Errorf("the tree before is %s, prevData says %s", a.before, prev)
	}
	return a, nil, nil
}

// after checks that a message follows the last state of its repository.
func (a *accepted) after(last State, e *Event) (State, map[string][]byte, error) {
	next := State{Rev: a.commit.Rev, Data: a.commit.Data}
	switch {
	case last == State{}: // nothing to compare with
	case e.Since != last.Rev || a.before != last.Data:
		return next, a.records, &RuleError{ErrOutOfSync, e.Repo, e.Rev, fmt.Errorf("since %q, last was %q", e.Since, last.Rev)}
	}
	return next, a.records, nil
}

// blockSet finds the blocks of one slice. Most are few.
type blockSet struct {
	few  []car.Block
	many map[cid.Cid][]byte // instead
}

func newBlockSet(all []car.Block) *blockSet {
	if len(all) <= 32 {
		return &blockSet{few: all}
	}
	s := &blockSet{many: make(map[cid.Cid][]byte, len(all))}
	for _, b := range all {
		s.many[b.CID] = b.Data
	}
	return s
}

func (s *blockSet) find(c cid.Cid) (data []byte, ok bool) {
	if s.many != nil {
		data, ok = s.many[c]
		return data, ok
	}
	for i := range s.few {
		if s.few[i].CID == c {
			return s.few[i].Data, true
		}
	}
	return nil, false
}

// Block implements mst.Source.
func (s *blockSet) Block(c cid.Cid) ([]byte, error) {
	if data, ok := s.find(c); ok {
		return data, nil
	}
	return nil, fmt.Errorf("%w: %s", mst.ErrPartial, c)
}

// invert returns the root before operations, from the blocks of a slice.
func invert(blocks *blockSet, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error) {
	tree, err := mst.Open(mst.Checked{Source: blocks}, root, mst.Limits{})
	if err != nil {
		return cid.Undef, err
	}
	return mst.InvertRoot(tree, ops)
}

// checkOps checks operations by themselves and against the blocks.
func checkOps(list []Op, blocks *blockSet, lim Limits) (ops []mst.InvertOp, records map[string][]byte, rule, err error) {
	records = make(map[string][]byte, len(list))
	ops = make([]mst.InvertOp, 0, len(list))
	var seen map[string]bool
	var checked map[cid.Cid]bool // many operations may have one large record
	if len(list) > 1 {
		seen, checked = make(map[string]bool, len(list)), make(map[cid.Cid]bool, len(list))
	}
	for _, op := range list {
		if _, _, err := syntax.ParsePath(op.Path); err != nil {
			return nil, nil, ErrOp, err
		}
		if seen[op.Path] {
			return nil, nil, ErrOp, fmt.Errorf("path %q given twice", op.Path)
		}
		if seen != nil {
			seen[op.Path] = true
		}
		if err := op.check(); err != nil {
			return nil, nil, ErrOp, err
		}
		if op.CID.Defined() {
			data, ok := blocks.find(op.CID)
			if !ok {
				return nil, nil, ErrRecord, fmt.Errorf("%s: no block", op.Path)
			}
			if !checked[op.CID] {
				if len(data) > lim.Record {
					return nil, nil, ErrRecord, fmt.Errorf("%s: %d bytes, at most %d", op.Path, len(data), lim.Record)
				}
				if err := checkRecord(data); err != nil {
					return nil, nil, ErrRecord, fmt.Errorf("%s: %w", op.Path, err)
				}
				if checked != nil {
					checked[op.CID] = true
				}
			}
			records[op.Path] = data
		}
		ops = append(ops, mst.InvertOp{Key: op.Path, Value: op.CID, Prev: op.Prev})
	}
	return ops, records, nil, nil
}

// checkRecord checks that a block is a record: a map in canonical CBOR.
func checkRecord(data []byte) error {
	if err := cbor.Scan(data, cbor.Limits{}); err != nil {
		return err
	}
	if data[0]>>5 != cbor.MajorMap {
		return errors.New("not a map")
	}
	return nil
}

// Sync checks a #sync message and returns the state that it announces. If this equals the last
// state, nothing has changed. If not, fetch the repository again. A message with the same revision
// and another root is stale.
func (v *Verifier) Sync(ctx context.Context, last State, s *Sync) (State, error) {
	fail := func(rule, detail error) (State, error) {
		return last, &RuleError{rule, s.DID, s.Rev, detail}
	}
	if s == nil {
		return last, fmt.Errorf("%w: there is none", ErrMessage)
	}
	if last.Rev != "" && s.Rev < last.Rev {
		return fail(ErrStale, nil)
	}
	if inFuture(s.Rev, v.Now, v.Drift) {
		return fail(ErrFuture, nil)
	}
	if !dag.Matches(s.Commit.CID, s.Commit.Data) {
		return fail(ErrBlocks, nil)
	}
	c, err := Parse(s.Commit.Data)
	if err != nil {
		return fail(ErrCommitBlock, err)
	}
	if c.DID != s.DID || c.Rev != s.Rev {
		return fail(ErrFields, nil)
	}
	if err := v.signature(ctx, c); err != nil {
		if errors.Is(err, crypto.ErrSignature) {
			return fail(ErrBadSignature, nil)
		}
		return fail(ErrNoKey, err)
	}
	next := State{Rev: c.Rev, Data: c.Data}
	if next.Rev == last.Rev && next != last {
		return fail(ErrStale, errors.New("known with another root"))
	}
	return next, nil
}

// key is Key, of which no key and no error is an error.
func (v *Verifier) key(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
	key, err := v.Key(ctx, did, refresh)
	if err == nil && key == nil {
		err = ErrNoKey
	}
	return key, err
}

// signature checks a commit's signature, with a fresh key if the first does not fit.
func (v *Verifier) signature(ctx context.Context, c Commit) error {
	if v.Key == nil {
		return nil
	}
	key, err := v.key(ctx, c.DID, false)
	if err == nil {
		if err = c.Verify(key); err == nil {
			return nil
		}
		old := key
		if key, err = v.key(ctx, c.DID, true); err == nil {
			if bytes.Equal(key.Bytes(), old.Bytes()) {
				return crypto.ErrSignature
			}
			return c.Verify(key)
		}
	}
	return err
}
