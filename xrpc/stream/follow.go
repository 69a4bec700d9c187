package stream

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Follower follows the repositories of a host or relay through com.atproto.sync.subscribeRepos. It
// is a [Consumer] that decodes frames and optionally verifies them. It is for one goroutine.
type Follower struct {
	Consumer
	// Verifier checks #commit and #sync messages. Nil: they are only decoded.
	Verifier *commit.Verifier
	// States stores the state of each repository, which its next message must follow. Nil: states
	// are kept in memory with the Follower. It is used only with a Verifier.
	States States
}

// States stores the last accepted state of each repository.
type States interface {
	// State returns the state of a repository, or the zero State for a repository not seen before.
	State(ctx context.Context, did syntax.DID) (commit.State, error)
	// SetState replaces the state of a repository.
	SetState(ctx context.Context, did syntax.DID, s commit.State) error
}

// Message is a decoded frame. At most one of Commit, Sync, Identity and Account is not nil.
type Message struct {
	Frame    Frame
	DID      syntax.DID // the account's; empty if the message is not about one
	Commit   *commit.Event
	Sync     *commit.Sync
	Identity *commit.Identity
	Account  *commit.Account
	// Records are the records of a verified commit, by path.
	Records map[string][]byte
	// Resync is set if the repository's contents do not follow from its messages, so that it must
	// be fetched again. This includes a repository whose first message is not its first commit.
	Resync bool
	// Err is set if no part of the message can be trusted: it is malformed, or breaks a rule
	// (*commit.RuleError).
	Err error
}

// Messages yields the messages of the stream. Outdated ones (commit.ErrStale) are left out. Invalid
// ones have Err set. Otherwise it behaves like Consumer.Frames. The state of a repository advances
// when the loop body for a message has ended.
func (f *Follower) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		if f.States == nil {
			f.States = memoryStates{}
		}
		for frame, err := range f.Frames(ctx) {
			if err != nil {
				yield(Message{}, err)
				return
			}
			m := decodeMessage(frame)
			var last, next commit.State
			if f.Verifier != nil && (m.Commit != nil || m.Sync != nil) {
				if last, err = f.States.State(ctx, m.DID); err != nil {
					yield(Message{}, err)
					return
				}
				next = f.verify(ctx, last, &m)
				if errors.Is(m.Err, commit.ErrStale) {
					continue
				}
			}
			if !yield(m, nil) {
				return
			}
			if next != last {
				if err := f.States.SetState(ctx, m.DID, next); err != nil {
					yield(Message{}, err)
					return
				}
			}
		}
	}
}

// verify checks a #commit or #sync message and returns the state after it.
func (f *Follower) verify(ctx context.Context, last commit.State, m *Message) (next commit.State) {
	var err error
	if m.Commit != nil {
		next, m.Records, err = f.Verifier.Commit(ctx, last, m.Commit)
		m.Resync = errors.Is(err, commit.ErrOutOfSync) || last == (commit.State{}) && m.Commit.Since != ""
	} else {
		next, err = f.Verifier.Sync(ctx, last, m.Sync)
		m.Resync = next != last
	}
	if err != nil && !errors.Is(err, commit.ErrOutOfSync) {
		m.Err, m.Resync = err, false
	}
	return next
}

// decodeMessage decodes a frame. One of a kind that is not known stays as it is.
func decodeMessage(f Frame) (m Message) {
	m.Frame = f
	decoded, err := commit.Decode(f.Kind, f.Payload)
	switch decoded := decoded.(type) {
	case *commit.Event:
		m.Commit = decoded
	case *commit.Sync:
		m.Sync = decoded
	case *commit.Identity:
		m.Identity = decoded
	case *commit.Account:
		m.Account = decoded
	}
	switch {
	case err == nil:
		m.DID = decoded.About()
	case !errors.Is(err, commit.ErrUnknownKind):
		m.Err = err
	}
	return m
}

// memoryStates is States in memory, by the hash of the DID: the other side chooses how long that
// is.
type memoryStates map[[sha256.Size]byte]commit.State

func (s memoryStates) State(_ context.Context, did syntax.DID) (commit.State, error) {
	return s[sha256.Sum256([]byte(did))], nil
}

func (s memoryStates) SetState(_ context.Context, did syntax.DID, st commit.State) error {
	s[sha256.Sum256([]byte(did))] = st
	return nil
}
