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

// Hash is what is stored, or named, of a secret: its SHA-256 in base64url.
func Hash(secret string) string {
	return digest.Hash(secret)
}

// Sealer writes values into forms and links, under a MAC for one purpose and one browser. They can
// be read there, but not changed, and no other browser can send them.
type Sealer struct{ key []byte }

// Sealer returns that of a purpose.
func (s *Site) Sealer(purpose string) Sealer {
	return Sealer{digest.Derive(s.cfg.Secret, "pdskit pages: "+purpose)}
}

// Seal writes a value. It panics if the value has no JSON.
func (x Sealer) Seal(b Browser, v any) string { return seal(x.key, b.Name, v) }

// Open reads what Seal wrote for the same browser, and reports whether it is that.
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
