package dpop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
)

// Errors that callers branch on with errors.Is. Any other error of Verify is one of the Replays:
// then it is unknown whether the proof is valid.
var (
	// ErrInvalid: the proof is missing or not valid. OAuth calls it invalid_dpop_proof.
	ErrInvalid = errors.New("dpop: invalid proof")
	// ErrNonce: the proof has no nonce of this server, or one that is too old. The client should
	// repeat the request with a new one. OAuth calls it use_dpop_nonce.
	ErrNonce = errors.New("dpop: the proof needs a nonce of this server")
	// ErrReplayed: the proof was used before. It matches ErrInvalid too.
	ErrReplayed = fmt.Errorf("%w: it was used before", ErrInvalid)
)

// Algorithms returns the names of the accepted signature algorithms, for a server's metadata.
func Algorithms() []string { return []string{crypto.P256.String(), crypto.K256.String()} }

// Target is the request that a proof is for.
type Target struct {
	// Method is the HTTP method, such as "POST".
	Method string
	// URL is the URL of the request. Query and fragment are ignored.
	URL string
	// Token is the access token of the request; empty: none.
	Token string
	// Account is the account of the token, for Replays that remember by account. It is not
	// verified.
	Account string
}

// Proof is the content of a verified proof.
type Proof struct {
	// Key is the client's key, and Thumbprint its SHA-256 thumbprint (RFC 7638) in base64url.
	Key        *crypto.PublicKey
	Thumbprint string
	// ID is the unique name of the proof, jti.
	ID string
	// Issued is when it was made, by the client's clock.
	Issued time.Time
	// Nonce is when the server made the nonce; zero if none was required.
	Nonce time.Time
}

// Limits on the length in bytes of a proof and of its parts.
const (
	maxProof = 8 << 10
	maxID    = 512
	maxURL   = 4 << 10
)

const typ = "dpop+jwt"

// head is the header of a proof. Members of private keys are only looked at to refuse them.
type head struct {
	Type string          `json:"typ"`
	Alg  string          `json:"alg"`
	Key  json.RawMessage `json:"jwk"`
	Crit json.RawMessage `json:"crit"` // what must be understood: there is nothing
}

// jwk is a public key, with the members that only private keys have.
type jwk struct {
	crypto.JWK
	D  json.RawMessage `json:"d"`
	P  json.RawMessage `json:"p"`
	Q  json.RawMessage `json:"q"`
	DP json.RawMessage `json:"dp"`
	DQ json.RawMessage `json:"dq"`
	QI json.RawMessage `json:"qi"`
	K  json.RawMessage `json:"k"`
}

func (k *jwk) private() bool {
	for _, m := range []json.RawMessage{k.D, k.P, k.Q, k.DP, k.DQ, k.QI, k.K} {
		if m != nil {
			return true
		}
	}
	return false
}

// claims are the payload of a proof.
type claims struct {
	ID     string   `json:"jti"`
	Method string   `json:"htm"`
	URL    string   `json:"htu"`
	Issued *float64 `json:"iat"`
	Token  *string  `json:"ath"`
	Nonce  *string  `json:"nonce"`
}

// parsed is a proof that was read and not verified.
type parsed struct {
	head   head
	claims claims
	signed string
	sig    []byte
}

// parse reads a proof: three parts in base64url without padding.
func parse(text string) (p parsed, err error) {
	if text == "" {
		return p, fmt.Errorf("%w: there is none", ErrInvalid)
	}
	if len(text) > maxProof {
		return p, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, maxProof)
	}
	one, rest, _ := strings.Cut(text, ".")
	two, three, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(three, ".") {
		return p, fmt.Errorf("%w: it has not three parts", ErrInvalid)
	}
	if err := decode(one, &p.head); err != nil {
		return p, fmt.Errorf("%w: header: %w", ErrInvalid, err)
	}
	if err := decode(two, &p.claims); err != nil {
		return p, fmt.Errorf("%w: payload: %w", ErrInvalid, err)
	}
	if p.sig, err = base64.RawURLEncoding.Strict().DecodeString(three); err != nil {
		return p, fmt.Errorf("%w: signature: %w", ErrInvalid, err)
	}
	p.signed = text[:len(one)+1+len(two)]
	return p, nil
}

func decode(part string, to any) error {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	return exactjson.Unmarshal(text, to)
}

// key returns the key that a header names.
func (h *head) key() (key *crypto.PublicKey, thumbprint string, err error) {
	switch {
	case h.Type != typ:
		return nil, "", fmt.Errorf("%w: typ is %.40q, not %q", ErrInvalid, h.Type, typ)
	case h.Alg != crypto.P256.String() && h.Alg != crypto.K256.String():
		return nil, "", fmt.Errorf("%w: alg %.40q is none of %s", ErrInvalid, h.Alg, strings.Join(Algorithms(), ", "))
	case h.Crit != nil:
		return nil, "", fmt.Errorf("%w: it has crit, and nothing of that is understood", ErrInvalid)
	case h.Key == nil:
		return nil, "", fmt.Errorf("%w: it has no jwk", ErrInvalid)
	}
	var k jwk
	if err := exactjson.Unmarshal(h.Key, &k); err != nil {
		return nil, "", fmt.Errorf("%w: jwk: %w", ErrInvalid, err)
	}
	if k.private() {
		return nil, "", fmt.Errorf("%w: jwk has parts of a private key", ErrInvalid)
	}
	key, err = k.PublicKey()
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("%w: jwk: %w", ErrInvalid, err)
	case key.Algorithm().String() != h.Alg:
		return nil, "", fmt.Errorf("%w: alg %s with a key of %s", ErrInvalid, h.Alg, key.Algorithm())
	}
	return key, key.JWK().Thumbprint(), nil
}

// Thumbprint returns the SHA-256 thumbprint of a key (RFC 7638) in base64url, as in the members jkt
// and dpop_jkt.
func Thumbprint(key *crypto.PublicKey) string { return key.JWK().Thumbprint() }

// TokenHash returns the value of the member ath for a token.
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Header returns the proof of a request: the value of its DPoP header, of which there must be
// exactly one.
func Header(h http.Header) (string, error) {
	values := h.Values("DPoP")
	if len(values) != 1 {
		return "", fmt.Errorf("%w: the request has %d DPoP headers, not one", ErrInvalid, len(values))
	}
	return values[0], nil
}

// Sign makes a proof for a request. nonce is the last one that the server has sent (DPoP-Nonce);
// empty: none is known.
func Sign(ctx context.Context, key crypto.Signer, to Target, nonce string, now time.Time) (string, error) {
	if key == nil || key.PublicKey() == nil {
		return "", errors.New("dpop: there is no key")
	}
	url, err := normalURL(to.URL)
	if err != nil {
		return "", fmt.Errorf("dpop: %w", err)
	}
	public := key.PublicKey().JWK()
	public.Alg = ""                                                                                              // the header has it
	h, _ := json.Marshal(map[string]any{"typ": typ, "alg": key.PublicKey().Algorithm().String(), "jwk": public}) // text
	c := map[string]any{"jti": rand.Text(), "htm": to.Method, "htu": url, "iat": now.Unix()}
	if to.Token != "" {
		c["ath"] = TokenHash(to.Token)
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	payload, _ := json.Marshal(c) // text and a number
	text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sig, err := key.Sign(ctx, []byte(text))
	if err != nil {
		return "", fmt.Errorf("dpop: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}
