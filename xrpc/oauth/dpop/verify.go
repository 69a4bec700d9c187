package dpop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Verifier verifies proofs. Replays is required. It is safe for concurrent use.
type Verifier struct {
	// Nonces, if not nil, are the nonces of which proofs must have one.
	Nonces *Nonces
	// Replays remembers used proofs.
	Replays Replays
	// MaxAge is how old a proof may be, and how far in the future, by its own time. Clients' clocks
	// are often wrong by minutes, so the nonce is the real bound. 0: 3 minutes.
	MaxAge time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// defaultAge is that of Verifier.MaxAge.
const defaultAge = 3 * time.Minute

// Nonce returns the nonce for the header DPoP-Nonce of a response, or "" if none are required.
func (v *Verifier) Nonce() string {
	if v.Nonces == nil {
		return ""
	}
	var since time.Time
	if m, ok := v.Replays.(interface{ Since(time.Time) time.Time }); ok {
		since = m.Since(v.Nonces.now())
	}
	return v.Nonces.Next(since)
}

// Verify checks a proof for a request, and records its use: a proof is valid once. [Header] returns
// the text. Errors are ErrInvalid, ErrReplayed, ErrNonce, and those of Replays.
//
// The caller must check that the token is bound to the key: see Thumbprint of [Proof].
func (v *Verifier) Verify(ctx context.Context, text string, to Target) (Proof, error) {
	if v.Replays == nil {
		panic("dpop: Verifier.Replays is missing: give &dpop.Memory{} or a *dpop.Stored")
	}
	now, age := time.Now, v.MaxAge
	if v.Now != nil {
		now = v.Now
	}
	if age == 0 {
		age = defaultAge
	}
	at := now()
	x, err := parse(text)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{ID: x.claims.ID}
	if p.Key, p.Thumbprint, err = x.head.key(); err != nil {
		return Proof{}, err
	}
	if p.Issued, err = x.claims.check(to, at, age); err != nil {
		return Proof{}, err
	}
	if v.Nonces != nil {
		if x.claims.Nonce == nil {
			return Proof{}, ErrNonce
		}
		var ok bool
		if p.Nonce, ok = v.Nonces.Made(*x.claims.Nonce); !ok {
			return Proof{}, ErrNonce
		}
	}
	if p.Key.VerifyJWS([]byte(x.signed), x.sig) != nil {
		return Proof{}, fmt.Errorf("%w: its signature is not one of its key", ErrInvalid)
	}
	// It cannot be used any more when it is too old, or its nonce is.
	use := Use{Thumbprint: p.Thumbprint, ID: p.ID, Account: to.Account, Nonce: p.Nonce, Expires: p.Issued.Add(age + time.Second)}
	if !p.Nonce.IsZero() && p.Nonce.Add(nonceLife).Before(use.Expires) {
		use.Expires = p.Nonce.Add(nonceLife)
	}
	if err := v.Replays.Use(ctx, use, at); err != nil {
		if errors.Is(err, ErrReplayed) || errors.Is(err, ErrNonce) {
			return Proof{}, err
		}
		return Proof{}, fmt.Errorf("dpop: %w", err)
	}
	return p, nil
}

// check compares the claims with a request. It returns when the proof was made.
func (c *claims) check(t Target, now time.Time, age time.Duration) (issued time.Time, err error) {
	switch {
	case c.ID == "" || len(c.ID) > maxID:
		return issued, fmt.Errorf("%w: jti must have 1 to %d bytes", ErrInvalid, maxID)
	case c.Method != t.Method:
		return issued, fmt.Errorf("%w: htm is %.20q, not the method of the request", ErrInvalid, c.Method)
	case c.Issued == nil || math.Abs(*c.Issued) > 1<<40:
		return issued, fmt.Errorf("%w: iat is not a time", ErrInvalid)
	}
	got, err := normalURL(c.URL)
	if err != nil {
		return issued, fmt.Errorf("%w: htu: %w", ErrInvalid, err)
	}
	want, err := normalURL(t.URL)
	if err != nil {
		return issued, fmt.Errorf("dpop: the address of the request: %w", err)
	}
	if got != want {
		return issued, fmt.Errorf("%w: htu is not the address of the request", ErrInvalid)
	}
	issued = time.Unix(int64(*c.Issued), 0)
	switch {
	case now.Sub(issued) > age:
		return issued, fmt.Errorf("%w: it is too old", ErrInvalid)
	case issued.Sub(now) > age:
		return issued, fmt.Errorf("%w: it is from the future", ErrInvalid)
	case t.Token == "" && c.Token != nil:
		return issued, fmt.Errorf("%w: it has ath, but the request has no access token", ErrInvalid)
	case t.Token != "" && (c.Token == nil || *c.Token != TokenHash(t.Token)):
		return issued, fmt.Errorf("%w: ath is not the hash of the access token", ErrInvalid)
	}
	return issued, nil
}
