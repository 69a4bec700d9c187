package provider

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// A whole flow: PAR, the page, the consent and the exchange. The client's own signatures count too.
func BenchmarkFlow(b *testing.B) {
	for name, client := range map[string]func(*world) *app{"public": (*world).public, "confidential": (*world).confidential} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			a := client(w)
			a.login()
			b.ReportAllocs()
			for b.Loop() {
				a.login()
			}
		})
	}
}

func BenchmarkRefresh(b *testing.B) {
	w := newWorld(b)
	a := w.public()
	tok := a.login()
	b.ReportAllocs()
	for b.Loop() {
		tok = a.refresh(tok.refresh).tokens(b)
	}
}

// A call of a method, with the signature of the client and without.
func BenchmarkCall(b *testing.B) {
	for name, replays := range map[string]dpop.Replays{"memory": &dpop.Memory{}, "stored": nil} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, func(c *Config) { c.CallReplays = replays })
			a := w.public()
			tok := a.login()
			a.alive(tok.access, true)
			nonce := w.p.calls.Nonce()
			proofs := make([]string, b.N)
			for i := range proofs {
				proofs[i] = a.proof("GET", issuer+whoPath, tok.access, nonce)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if out := a.callWith("DPoP "+tok.access, proofs[i]); out.status != 200 {
					b.Fatal(out.text)
				}
			}
		})
	}
	b.Run("signature alone", func(b *testing.B) {
		key := newKey(b)
		msg := make([]byte, 500)
		rand.Read(msg)
		sig, err := key.Sign(context.Background(), msg)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if key.PublicKey().VerifyJWS(msg, sig) != nil {
				b.Fatal("bad")
			}
		}
	})
}
