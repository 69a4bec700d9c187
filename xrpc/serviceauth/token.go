package serviceauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Token has the claims of a token.
type Token struct {
	Issuer   string // a DID, or a DID with the fragment of a service: "did:web:example.com#atproto_labeler"
	Audience string // the same
	Method   string // the NSID that it is good for; empty: none of XRPC, or any, for old services
	ID       string // for one use only
	Issued   time.Time
	Expires  time.Time
	KeyID    string // fragment of the issuer's key, without "#"; empty: that of an account, "atproto"
}

// DID returns the issuer without a fragment.
func (t Token) DID() syntax.DID {
	did, _, _ := strings.Cut(t.Issuer, "#")
	return syntax.DID(did)
}

// defaultLife is how long a token is good that does not say.
const defaultLife = time.Minute

type header struct {
	Type string          `json:"typ,omitempty"`
	Alg  string          `json:"alg"`
	Key  string          `json:"kid,omitempty"`
	Crit json.RawMessage `json:"crit,omitempty"` // what must be understood: there is nothing
}

type payload struct {
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"`
	Expires  *float64 `json:"exp"`
	Issued   *float64 `json:"iat,omitempty"`
	Before   *float64 `json:"nbf,omitempty"`
	Method   string   `json:"lxm,omitempty"`
	ID       string   `json:"jti,omitempty"`
}

// Sign makes a token. If times are missing, they are now and a minute from now. A missing ID is
// random.
func Sign(ctx context.Context, signer crypto.Signer, t Token) (string, error) {
	switch {
	case signer == nil || signer.PublicKey() == nil:
		return "", errors.New("serviceauth: there is no signing key")
	case t.Issuer == "":
		return "", errors.New("serviceauth: Token.Issuer is missing")
	case t.Audience == "":
		return "", errors.New("serviceauth: Token.Audience is missing")
	}
	if t.Issued.IsZero() {
		t.Issued = time.Now()
	}
	if t.Expires.IsZero() {
		t.Expires = t.Issued.Add(defaultLife)
	}
	if t.ID == "" {
		t.ID = strings.ToLower(rand.Text())
	}
	issued, expires := float64(t.Issued.Unix()), float64(t.Expires.Unix())
	kid := strings.TrimPrefix(t.KeyID, "#")
	if kid != "" {
		kid = "#" + kid
	}
	// Text and whole numbers always have a JSON form.
	h, _ := json.Marshal(header{Type: "JWT", Alg: signer.PublicKey().Algorithm().String(), Key: kid})
	p, _ := json.Marshal(payload{Issuer: t.Issuer, Audience: t.Audience, Expires: &expires, Issued: &issued, Method: t.Method, ID: t.ID})
	text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(p)
	sig, err := signer.Sign(ctx, []byte(text))
	if err != nil {
		return "", fmt.Errorf("serviceauth: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// maxToken is the length in bytes of the longest token that is looked at.
const maxToken = 8 << 10

// parsed is a token that was not verified yet.
type parsed struct {
	Token
	alg    string
	typ    string
	before time.Time
	signed []byte
	sig    []byte
}

// parse reads a token. There is one way to write it: base64url without padding.
func parse(token string) (p parsed, ok bool) {
	parts := strings.Split(token, ".")
	// base64 ignores the ends of lines.
	if len(token) > maxToken || len(parts) != 3 || strings.ContainsAny(token, "\r\n") {
		return p, false
	}
	var h header
	var c payload
	if !decode(parts[0], &h) || !decode(parts[1], &c) || c.Expires == nil || h.Alg == "" || h.Crit != nil {
		return p, false
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return p, false
	}
	return parsed{
		Token: Token{
			Issuer: c.Issuer, Audience: c.Audience, Method: c.Method, ID: c.ID, KeyID: strings.TrimPrefix(h.Key, "#"),
			Expires: moment(c.Expires), Issued: moment(c.Issued),
		},
		alg: h.Alg, typ: h.Type, before: moment(c.Before),
		signed: []byte(parts[0] + "." + parts[1]), sig: sig,
	}, true
}

func decode(part string, to any) bool {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return err == nil && exactjson.Unmarshal(text, to) == nil
}

// maxSeconds keeps times within what time.Time can compute with.
const maxSeconds = 1 << 40

// moment reads a number of seconds.
func moment(seconds *float64) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	return time.Unix(int64(min(max(*seconds, 0), maxSeconds)), 0)
}
