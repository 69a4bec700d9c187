package provider

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// accessType is the typ of access tokens. No other kind of token has it.
const accessType = "dpop+at+jwt"

// accessClaims are what an access token says (RFC 9068, RFC 9449).
type accessClaims struct {
	Issuer      string     `json:"iss"`
	Audience    string     `json:"aud"`
	Subject     syntax.DID `json:"sub"`
	Client      string     `json:"client_id"`
	Session     string     `json:"sid"`
	ID          string     `json:"jti"`
	Credentials int64      `json:"cred"`
	Issued      int64      `json:"iat"`
	Expires     int64      `json:"exp"`
	Confirm     confirm    `json:"cnf"`
}

type confirm struct {
	Thumbprint string `json:"jkt"`
}

// accessHead is the header of all access tokens.
var accessHead = base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"` + accessType + `","alg":"HS256"}`))

// maxAccess is the length in bytes of the longest access token.
const maxAccess = 8 << 10

// signAccess makes an access token: the same one for the same claims.
func (p *Provider) signAccess(c accessClaims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed := accessHead + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(p.accessMAC(signed)), nil
}

func (p *Provider) accessMAC(signed string) []byte {
	h := hmac.New(sha256.New, p.secrets.access)
	h.Write([]byte(signed))
	return h.Sum(nil)
}

// parseAccess verifies the signature of an access token. The header is compared as a whole, so that
// no other algorithm or type is ever looked at.
func (p *Provider) parseAccess(text string) (c accessClaims, ok bool) {
	signed, tail, found := cutLast(text)
	if !found || len(text) > maxAccess || !strings.HasPrefix(signed, accessHead+".") {
		return c, false
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(tail)
	if err != nil || !hmac.Equal(sum, p.accessMAC(signed)) || !decodePart(signed[len(accessHead)+1:], &c) {
		return accessClaims{}, false
	}
	return c, c.Issuer == p.cfg.Issuer && c.Audience == string(p.cfg.ServiceDID)
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func (c accessClaims) expired(now time.Time) bool { return now.Unix() >= c.Expires }
