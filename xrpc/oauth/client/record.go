package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// version is that of stored documents.
const version = 1

// clientAuth is how the client authenticates in a session, from the first request on.
type clientAuth struct {
	KeyID string `json:"kid,omitempty"` // of private_key_jwt; empty: none
}

// record is a session as it is stored.
type record struct {
	Version int           `json:"v"`
	DID     syntax.DID    `json:"did"`
	Handle  syntax.Handle `json:"handle,omitempty"` // when it began
	Issuer  string        `json:"iss"`
	PDS     string        `json:"pds"`
	Auth    clientAuth    `json:"auth"`
	Key     string        `json:"key"` // of the proofs: a P-256 scalar in base64url
	Access  string        `json:"access"`
	Refresh string        `json:"refresh,omitempty"`
	Scope   string        `json:"scope"`
	Created time.Time     `json:"created"`
	Renewed time.Time     `json:"renewed"`          // when Access was given out
	Expires time.Time     `json:"expires,omitzero"` // of Access; zero: not known
	Unsure  bool          `json:"unsure,omitempty"` // Refresh was used, and no answer came
	Times   int           `json:"n"`                // how often it was renewed
}

// loginState is a login that is under way, as it is stored.
type loginState struct {
	Version  int           `json:"v"`
	Issuer   string        `json:"iss"`
	DID      syntax.DID    `json:"did,omitempty"` // who must come; empty: anybody
	Handle   syntax.Handle `json:"handle,omitempty"`
	Auth     clientAuth    `json:"auth"`
	Key      string        `json:"key"`
	Verifier string        `json:"verifier"`
	Redirect string        `json:"redirect"`
	Browser  string        `json:"browser,omitempty"` // hash of its secret
	AppState []byte        `json:"app,omitempty"`
	Expires  time.Time     `json:"expires"`
}

// held is a session as the store has it.
type held struct {
	record
	raw         []byte
	key         crypto.Signer
	renewBefore time.Duration // before Expires it is renewed
	// before is what the store has in the place of raw, if it is not stored yet.
	before []byte
}

// stored is what the store has.
func (h *held) stored() []byte {
	if h.before != nil {
		return h.before
	}
	return h.raw
}

func newHeld(r record, raw []byte) (*held, error) {
	key, err := parseKey(r.Key)
	if err != nil {
		return nil, err
	}
	// At a different time in each process, so that they seldom meet; of a token with a short life
	// before its last quarter.
	early := 10*time.Second + rand.N(30*time.Second)
	if !r.Expires.IsZero() {
		early = min(early, r.Expires.Sub(r.Renewed)/4)
	}
	return &held{record: r, raw: raw, key: key, renewBefore: early}, nil
}

// stale reports whether the access token is to be renewed.
func (h *held) stale(now time.Time) bool {
	return !h.Expires.IsZero() && !now.Add(h.renewBefore).Before(h.Expires)
}

// expired reports whether the access token is of no use.
func (h *held) expired(now time.Time) bool { return !h.Expires.IsZero() && !now.Before(h.Expires) }

func newKey() (text string, key *crypto.PrivateKey, err error) {
	if key, err = crypto.GenerateKey(crypto.P256); err != nil {
		return "", nil, err
	}
	return base64.RawURLEncoding.EncodeToString(key.Bytes()), key, nil
}

func parseKey(text string) (*crypto.PrivateKey, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("oauth client: stored key: %w", err)
	}
	return crypto.ParsePrivateKey(crypto.P256, b)
}

// seal writes a document for a place in a store.
func (c *Client) seal(place string, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil || c.cfg.Seal == nil {
		return text, err
	}
	return c.cfg.Seal.Seal(place, text), nil
}

// unseal reads what seal has written.
func (c *Client) unseal(place string, raw []byte, to any) (err error) {
	if c.cfg.Seal != nil {
		if raw, err = c.cfg.Seal.Open(place, raw); err != nil {
			return fmt.Errorf("%s: %w", withoutSecret(place), err)
		}
	}
	if err := exactjson.UnmarshalPlain(raw, to); err != nil {
		return fmt.Errorf("%s: %w", withoutSecret(place), err)
	}
	return nil
}

// Contexts for which values are sealed.
const (
	sessionPlace = "oauth client session "
	statePlace   = "oauth client login "
)

// withoutSecret is a place as errors name it: the random part of a session's ID is not for logs.
func withoutSecret(place string) string {
	place, _, _ = strings.Cut(place, "/")
	return place
}

func (c *Client) unsealSession(id SessionID, raw []byte) (*held, error) {
	var r record
	if err := c.unseal(sessionPlace+string(id), raw, &r); err != nil {
		return nil, err
	}
	if r.Version != version || r.DID != id.DID() {
		return nil, fmt.Errorf("oauth client: the stored session %s is of version %d and of %s", withoutSecret(string(id)), r.Version, r.DID)
	}
	return newHeld(r, raw)
}
