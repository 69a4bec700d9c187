package dpop

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Nonces makes and verifies nonces. It has no state: nodes with the same secret accept each other's
// nonces. Make one with NewNonces. It is safe for concurrent use.
type Nonces struct {
	key []byte
	now func() time.Time
}

// How nonces rotate. A client can use a nonce for at least nonceLife less nonceStep, so the nonces
// of the two previous steps are valid too. RFC 9449 leaves the lifetime to the server; atproto
// demands at most five minutes.
const (
	nonceStep = time.Minute
	nonceLife = 3 * nonceStep
	// nonceAhead is how far the clocks of two nodes may differ.
	nonceAhead = 30 * time.Second
)

// minSecret is the length in bytes of the shortest secret.
const minSecret = 16

const macLen = 16

// NewNonces returns nonces with a key derived from a secret of at least 16 random bytes. It panics
// if the secret is shorter. A nil now means time.Now.
func NewNonces(secret []byte, now func() time.Time) *Nonces {
	if len(secret) < minSecret {
		panic("dpop: the secret of NewNonces is too short: give at least 16 random bytes, the same for all nodes")
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "dpop nonce", sha256.Size)
	if err != nil {
		panic("dpop: " + err.Error()) // cannot be: the length is that of one block
	}
	if now == nil {
		now = time.Now
	}
	return &Nonces{key: key, now: now}
}

// Next returns the nonce to send, the value of the header DPoP-Nonce. It changes every minute, and
// also at notBefore, so that nonces from before that time can be recognised as older. A zero
// notBefore is ignored.
func (n *Nonces) Next(notBefore time.Time) string {
	now := n.now()
	at := now.Truncate(nonceStep)
	if notBefore.After(at) && !notBefore.After(now) {
		at = notBefore
	}
	var b [8 + macLen]byte
	// Rounded up: the nonce must not seem to be older than notBefore.
	binary.BigEndian.PutUint64(b[:], uint64(at.Add(time.Millisecond-1).UnixMilli()))
	copy(b[8:], n.mac(b[:8]))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Made returns when a nonce was made. ok is false if it is not one of these nonces, or too old.
func (n *Nonces) Made(nonce string) (t time.Time, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != 8+macLen || !hmac.Equal(b[8:], n.mac(b[:8])) {
		return t, false
	}
	t = time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	now := n.now()
	return t, now.Sub(t) < nonceLife && !t.After(now.Add(nonceAhead))
}

func (n *Nonces) mac(b []byte) []byte {
	h := hmac.New(sha256.New, n.key)
	h.Write(b)
	return h.Sum(nil)[:macLen]
}
