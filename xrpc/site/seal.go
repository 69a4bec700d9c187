package site

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/exactjson"
)

func equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// Hash returns the SHA-256 hash of a secret in base64url. It is stored, or used as a name, instead
// of the secret.
func Hash(secret string) string {
	return digest.Hash(secret)
}

// Sealer protects values in forms and links with a MAC for one purpose and one browser. The values
// are readable, but cannot be changed or sent by another browser.
type Sealer struct{ key []byte }

// Sealer returns the sealer of a purpose.
func (s *Site) Sealer(purpose string) Sealer {
	return Sealer{digest.Derive(s.cfg.Secret, "pdskit pages: "+purpose)}
}

// Seal encodes a value. It panics if the value has no JSON.
func (x Sealer) Seal(b Browser, v any) string { return seal(x.key, b.Name, v) }

// Open decodes a text that Seal made for the same browser. It reports false for any other text.
func (x Sealer) Open(b Browser, text string, v any) bool { return unseal(x.key, b.Name, text, v) }

func seal(key []byte, device string, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("site: " + err.Error())
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	return body + "." + digest.MAC(key, device, body)
}

func unseal(key []byte, device, text string, v any) bool {
	body, sum, _ := strings.Cut(text, ".")
	if !equal(sum, digest.MAC(key, device, body)) {
		return false
	}
	doc, err := base64.RawURLEncoding.DecodeString(body)
	return err == nil && exactjson.UnmarshalPlain(doc, v) == nil
}
