package site

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"

	"github.com/pdskit/pdskit/internal/exactjson"
)

func derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "pdskit pages: "+purpose, sha256.Size)
	if err != nil {
		panic("site: " + err.Error()) // cannot be: the length is that of one block
	}
	return key
}

// mac is a MAC over parts, in base64url.
func mac(key []byte, parts ...string) string {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		io.WriteString(h, part)
		h.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// Hash is what is stored, or named, of a secret: its SHA-256 in base64url.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Sealer writes values into forms and links, under a MAC for one purpose and one browser. They can
// be read there, but not changed, and no other browser can send them.
type Sealer struct{ key []byte }

// Sealer returns that of a purpose.
func (s *Site) Sealer(purpose string) Sealer { return Sealer{derive(s.cfg.Secret, purpose)} }

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
	return body + "." + mac(key, device, body)
}

func unseal(key []byte, device, text string, v any) bool {
	body, sum, _ := strings.Cut(text, ".")
	if !equal(sum, mac(key, device, body)) {
		return false
	}
	doc, err := base64.RawURLEncoding.DecodeString(body)
	return err == nil && exactjson.UnmarshalPlain(doc, v) == nil
}
