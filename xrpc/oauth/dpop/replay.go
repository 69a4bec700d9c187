package dpop

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Use is one use of a proof.
type Use struct {
	// Thumbprint and ID identify the proof.
	Thumbprint string
	ID         string
	// Account is that of Target: the account of the token. It is not part of the proof's identity.
	Account string
	// Nonce is when the proof's nonce was made; zero if it needed none.
	Nonce time.Time
	// Expires is until when the use must be remembered.
	Expires time.Time
}

// digest stands for the proof: strings of clients may be long.
func (u Use) digest() (d [16]byte) {
	h := sha256.New()
	h.Write([]byte(u.Thumbprint))
	h.Write([]byte{0})
	h.Write([]byte(u.ID))
	copy(d[:], h.Sum(nil))
	return d
}

// Replays remembers used proofs. It must be safe for concurrent use: of two concurrent uses of one
// proof, one fails.
type Replays interface {
	// Use records a use at a time. It returns ErrReplayed if the proof was used before. It returns
	// ErrNonce if that is unknown, but a proof with a newer nonce would be accepted.
	Use(ctx context.Context, u Use, now time.Time) error
}

// Memory remembers proofs in the memory of one process. The zero value is ready to use. It is safe
// for concurrent use.
//
// It does not know proofs that were used before the process started. So it refuses, with ErrNonce,
// proofs with a nonce from before its first use. Without nonces, proofs from before a restart can
// be used once more.
type Memory struct {
	// Max bounds the number of remembered proofs, at some 60 bytes each. When it is reached, all
	// are forgotten, and proofs with nonces from before that moment are refused with ErrNonce. 0:
	// 200,000.
	Max int

	mu    sync.Mutex
	since time.Time          // proofs with older nonces are not known
	uses  map[[16]byte]int64 // until when, in Unix milliseconds
	sweep time.Time          // not before
}

const defaultMax = 200_000

// Since returns the time from which on nonces are accepted: that of the first call of a method, or
// that of the last time at which the memory was full.
func (m *Memory) Since(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(now)
	return m.since
}

func (m *Memory) begin(now time.Time) {
	if m.uses == nil {
		m.since, m.uses = now, make(map[[16]byte]int64)
	}
}

// Use implements Replays.
func (m *Memory) Use(_ context.Context, u Use, now time.Time) error {
	most := m.Max
	if most == 0 {
		most = defaultMax
	}
	d := u.digest()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(now)
	if m.old(u) {
		return ErrNonce
	}
	if until, ok := m.uses[d]; ok && now.UnixMilli() <= until {
		return ErrReplayed
	}
	if !now.Before(m.sweep) {
		m.sweep = now.Add(time.Minute)
		maps.DeleteFunc(m.uses, func(_ [16]byte, until int64) bool { return until < now.UnixMilli() })
	}
	if len(m.uses) >= most {
		clear(m.uses)
		m.since = now // this proof is new, whatever its nonce
	}
	m.uses[d] = u.Expires.UnixMilli()
	return nil
}

// old reports whether the memory does not go back to the nonce of a use.
func (m *Memory) old(u Use) bool { return !u.Nonce.IsZero() && u.Nonce.Before(m.since) }

// Stored remembers proofs in a KV, which all nodes share and which survives restarts. Each use is a
// write. It is safe for concurrent use.
type Stored struct {
	// KV stores the proofs.
	KV storage.KV
	// Prefix begins their keys, for example "oauth/proof/". The rest of a key has 22 bytes.
	Prefix string
}

// Use implements Replays.
func (s *Stored) Use(ctx context.Context, u Use, now time.Time) error {
	d := u.digest()
	key := s.Prefix + base64.RawURLEncoding.EncodeToString(d[:])
	return s.KV.Write(ctx, func(tx storage.KVTx) error {
		until, err := tx.Get(ctx, key)
		switch {
		case err == nil && len(until) == 8 && now.UnixMilli() <= int64(binary.BigEndian.Uint64(until)):
			return ErrReplayed
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return err
		}
		value := binary.BigEndian.AppendUint64(nil, uint64(u.Expires.UnixMilli()))
		// The store's clock may be behind.
		return tx.Set(ctx, key, value, u.Expires.Add(time.Minute))
	})
}
