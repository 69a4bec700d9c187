//go:build !nopasskeys && !nopages

package passkey_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/passkey"
	"github.com/pdskit/pdskit/xrpc/passkey/passkeytest"
)

// What authenticators send is read without a panic, and nothing but a signature of the passkey is
// taken. The parts are put into answers to challenges that are good, so that the verifier sees them.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("data"), []byte("signature"), []byte("\xa3cfmtdnonegattStmt\xa0hauthDataX"))
	f.Add([]byte{}, []byte{}, []byte{0xa0})
	f.Fuzz(func(t *testing.T, data, signature, object []byte) {
		b, a := registered(t)
		put := func(answer []byte, parts map[string]any) []byte {
			var m map[string]any
			b.ok(json.Unmarshal(answer, &m))
			for k, v := range parts {
				m["response"].(map[string]any)[k] = v
			}
			text, err := json.Marshal(m)
			b.ok(err)
			return text
		}
		encode := base64.RawURLEncoding.EncodeToString
		_, err := b.finish(put(a.Get(b.begin()), map[string]any{"authenticatorData": encode(data), "signature": encode(signature)}))
		b.is("login", err, passkey.ErrRefused)
		options, err := b.BeginRegistration(t.Context(), account.Trusted(bob), device)
		b.ok(err)
		_, err = b.FinishRegistration(t.Context(), account.Trusted(bob), device, "", put(passkeytest.New(t, origin).Create(options), map[string]any{"attestationObject": encode(object)}))
		if err != nil && !errors.Is(err, passkey.ErrRefused) {
			t.Errorf("registration: %v", err)
		}
	})
}

// FuzzFinish reads whole answers.
func FuzzFinish(f *testing.F) {
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30"}}`))
	f.Add([]byte(`{"id":"AA","id":"BB"}`))
	f.Add([]byte(strings.Repeat("[", 70_000)))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := newBench(t)
		for what, finish := range map[string]func() error{
			"login": func() error { _, err := b.finish(text); return err },
			"registration": func() error {
				_, err := b.FinishRegistration(t.Context(), account.Trusted(alice), device, "", text)
				return err
			},
		} {
			if err := finish(); !errors.Is(err, passkey.ErrRefused) && !errors.Is(err, passkey.ErrChallenge) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
