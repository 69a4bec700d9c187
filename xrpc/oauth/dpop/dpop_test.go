package dpop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/storage/memory"
)

var b64 = base64.RawURLEncoding

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 4, 5, 6, 7, 8_123_456, time.UTC)} }

var secret = []byte("0123456789abcdef0123456789abcdef")

func newKey(t testing.TB, alg crypto.Algorithm) *crypto.PrivateKey {
	key, err := crypto.GenerateKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newVerifier(c *clock) *Verifier {
	return &Verifier{Nonces: NewNonces(secret, c.now), Replays: &Memory{}, Now: c.now}
}

// forge signs a header and a payload as they are.
func forge(t testing.TB, key *crypto.PrivateKey, header, payload map[string]any) string {
	h, err1 := json.Marshal(header)
	p, err2 := json.Marshal(payload)
	text := b64.EncodeToString(h) + "." + b64.EncodeToString(p)
	sig, err3 := key.Sign(context.Background(), []byte(text))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return text + "." + b64.EncodeToString(sig)
}

func publicJWK(key *crypto.PrivateKey) map[string]any {
	k := key.PublicKey().JWK()
	return map[string]any{"kty": k.KeyType, "crv": k.Curve, "x": k.X, "y": k.Y}
}

var target = Target{Method: "POST", URL: "https://pds.example.com/xrpc/com.example.put?x=y", Token: "token"}

func TestGoodProofs(t *testing.T) {
	c := newClock()
	for _, alg := range []crypto.Algorithm{crypto.P256, crypto.K256} {
		v, key := newVerifier(c), newKey(t, alg)
		text, err := Sign(t.Context(), key, target, v.Nonce(), c.now())
		if err != nil {
			t.Fatal(err)
		}
		p, err := v.Verify(t.Context(), text, target)
		if err != nil || !p.Key.Equal(key.PublicKey()) || p.Thumbprint != key.PublicKey().JWK().Thumbprint() || p.ID == "" || p.Issued.Unix() != c.now().Unix() {
			t.Errorf("%s: %+v, %v", alg, p, err)
		}
		if _, err := v.Verify(t.Context(), text, target); !errors.Is(err, ErrReplayed) || !errors.Is(err, ErrInvalid) {
			t.Errorf("127: the second use: %v", err)
		}
	}
}

// A proof by another library, where signatures have both values of s.
func TestHighS(t *testing.T) {
	c := newClock()
	v := newVerifier(c)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		h, _ := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": "ES256",
			"jwk": map[string]any{"kty": "EC", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:]), "kid": "x", "use": "sig"}})
		p, _ := json.Marshal(map[string]any{"jti": rand.Text(), "htm": "POST", "htu": "https://pds.example.com/xrpc/com.example.put",
			"iat": c.now().Unix(), "ath": TokenHash("token"), "nonce": v.Nonce(), "more": 1})
		text := b64.EncodeToString(h) + "." + b64.EncodeToString(p)
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		if _, err := v.Verify(t.Context(), text+"."+b64.EncodeToString(sig), target); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMatrix128to133Proofs has what the checks 128 to 133 of the matrix ask, and more: what is changed of a
// good proof, and the error.
func TestMatrix128to133Proofs(t *testing.T) {
	c := newClock()
	key, other := newKey(t, crypto.P256), newKey(t, crypto.K256)
	long := strings.Repeat("x", maxID+1)
	for _, x := range []struct {
		name   string
		head   map[string]any
		claims map[string]any
		want   error // nil: it is good
	}{
		{"unchanged", nil, nil, nil},
		{"128 htm in lower case", nil, map[string]any{"htm": "post"}, ErrInvalid},
		{"128 another htm", nil, map[string]any{"htm": "GET"}, ErrInvalid},
		{"128 no htm", nil, map[string]any{"htm": nil}, ErrInvalid},
		{"129 another host", nil, map[string]any{"htu": "https://other.example.com/xrpc/com.example.put"}, ErrInvalid},
		{"129 another port", nil, map[string]any{"htu": "https://pds.example.com:444/xrpc/com.example.put"}, ErrInvalid},
		{"129 the default port", nil, map[string]any{"htu": "HTTPS://PDS.example.com:443/xrpc/com.example.put"}, nil},
		{"129 another scheme", nil, map[string]any{"htu": "http://pds.example.com/xrpc/com.example.put"}, ErrInvalid},
		{"129 another path", nil, map[string]any{"htu": "https://pds.example.com/xrpc/com.example.Put"}, ErrInvalid},
		{"129 a longer path", nil, map[string]any{"htu": "https://pds.example.com/xrpc/com.example.put/"}, ErrInvalid},
		{"129 needless escapes", nil, map[string]any{"htu": "https://pds.example.com/%78rpc/com%2Eexample%2eput"}, nil},
		{"129 dot segments", nil, map[string]any{"htu": "https://pds.example.com/a/../xrpc/./com.example.put"}, nil},
		{"129 credentials", nil, map[string]any{"htu": "https://me@pds.example.com/xrpc/com.example.put"}, ErrInvalid},
		{"129 no address", nil, map[string]any{"htu": "/xrpc/com.example.put"}, ErrInvalid},
		{"129 no htu", nil, map[string]any{"htu": nil}, ErrInvalid},
		{"130 query and fragment", nil, map[string]any{"htu": "https://pds.example.com/xrpc/com.example.put?other#z"}, nil},
		{"131 no ath", nil, map[string]any{"ath": nil}, ErrInvalid},
		{"131 wrong ath", nil, map[string]any{"ath": TokenHash("other")}, ErrInvalid},
		{"131 ath of another type", nil, map[string]any{"ath": 7}, ErrInvalid},
		{"132 four minutes old", nil, map[string]any{"iat": c.now().Unix() - 240}, ErrInvalid},
		{"132 four minutes ahead", nil, map[string]any{"iat": c.now().Unix() + 240}, ErrInvalid},
		{"132 two minutes old", nil, map[string]any{"iat": c.now().Unix() - 120}, nil},
		{"132 two minutes ahead", nil, map[string]any{"iat": c.now().Unix() + 120}, nil},
		{"132 no iat", nil, map[string]any{"iat": nil}, ErrInvalid},
		{"132 a huge iat", nil, map[string]any{"iat": 1e300}, ErrInvalid},
		{"132 iat as text", nil, map[string]any{"iat": "1772600767"}, ErrInvalid},
		{"133 alg none", map[string]any{"alg": "none"}, nil, ErrInvalid},
		{"133 alg HS256", map[string]any{"alg": "HS256"}, nil, ErrInvalid},
		{"133 alg RS256", map[string]any{"alg": "RS256"}, nil, ErrInvalid},
		{"133 alg of the other curve", map[string]any{"alg": "ES256K"}, nil, ErrInvalid},
		{"133 no alg", map[string]any{"alg": nil}, nil, ErrInvalid},
		{"133 typ JWT", map[string]any{"typ": "JWT"}, nil, ErrInvalid},
		{"133 no typ", map[string]any{"typ": nil}, nil, ErrInvalid},
		{"133 typ in upper case", map[string]any{"typ": "DPOP+JWT"}, nil, ErrInvalid},
		{"133 private jwk", map[string]any{"jwk": with(publicJWK(key), "d", b64.EncodeToString(key.Bytes()))}, nil, ErrInvalid},
		{"133 symmetric jwk", map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}}, nil, ErrInvalid},
		{"133 jwk of another key", map[string]any{"jwk": publicJWK(newKey(t, crypto.P256))}, nil, ErrInvalid},
		{"133 jwk of the other curve", map[string]any{"alg": "ES256K", "jwk": publicJWK(other)}, nil, ErrInvalid},
		{"133 jwk not on the curve", map[string]any{"jwk": with(publicJWK(key), "x", b64.EncodeToString(make([]byte, 32)))}, nil, ErrInvalid},
		{"133 no jwk", map[string]any{"jwk": nil}, nil, ErrInvalid},
		{"133 jwk as text", map[string]any{"jwk": "x"}, nil, ErrInvalid},
		{"crit", map[string]any{"crit": []string{"b64"}, "b64": false}, nil, ErrInvalid},
		{"no jti", nil, map[string]any{"jti": nil}, ErrInvalid},
		{"an empty jti", nil, map[string]any{"jti": ""}, ErrInvalid},
		{"a long jti", nil, map[string]any{"jti": long}, ErrInvalid},
		{"no nonce", nil, map[string]any{"nonce": nil}, ErrNonce},
		{"an empty nonce", nil, map[string]any{"nonce": ""}, ErrNonce},
		{"a forged nonce", nil, map[string]any{"nonce": b64.EncodeToString(make([]byte, 24))}, ErrNonce},
		{"a nonce of another server", nil, map[string]any{"nonce": NewNonces([]byte("fedcba9876543210"), c.now).Next(time.Time{})}, ErrNonce},
		{"a proof too long", nil, map[string]any{"x": strings.Repeat("x", maxProof)}, ErrInvalid},
	} {
		t.Run(x.name, func(t *testing.T) {
			v := newVerifier(c)
			head := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": publicJWK(key)}
			claims := map[string]any{"jti": "a", "htm": "POST", "htu": "https://pds.example.com/xrpc/com.example.put",
				"iat": c.now().Unix(), "ath": TokenHash("token"), "nonce": v.Nonce()}
			change(head, x.head)
			change(claims, x.claims)
			_, err := v.Verify(t.Context(), forge(t, key, head, claims), target)
			if !errors.Is(err, x.want) || x.want == nil && err != nil {
				t.Errorf("%v, want %v", err, x.want)
			}
		})
	}
}

func with(m map[string]any, name string, value any) map[string]any {
	m[name] = value
	return m
}

func change(m, with map[string]any) {
	maps.Copy(m, with)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
}

// Texts that are no proofs at all, or not canonical.
func TestMalformed(t *testing.T) {
	c := newClock()
	v, key := newVerifier(c), newKey(t, crypto.P256)
	good, err := Sign(t.Context(), key, target, v.Nonce(), c.now())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	sig := []byte(parts[2])
	twice := b64.EncodeToString([]byte(`{"typ":"dpop+jwt","typ":"dpop+jwt","alg":"ES256","jwk":{}}`))
	for name, text := range map[string]string{
		"empty": "", "a word": "x", "two parts": parts[0] + "." + parts[1], "four parts": good + ".x", "only dots": "..",
		"padding": parts[0] + "=." + parts[1] + "." + parts[2], "a space": good + " ", "a line": parts[0] + ".\n" + parts[1] + "." + parts[2],
		"no signature": parts[0] + "." + parts[1] + ".", "a short signature": parts[0] + "." + parts[1] + "." + parts[2][:40],
		"a signature of zeroes": parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 64)),
		"another signature":     parts[0] + "." + parts[1] + "." + string(append([]byte{sig[0] ^ 3}, sig[1:]...)),
		"a name twice":          twice + "." + parts[1] + "." + parts[2],
		"not JSON":              b64.EncodeToString([]byte("x")) + "." + parts[1] + "." + parts[2],
		"names in other case":   b64.EncodeToString([]byte(`{"TYP":"dpop+jwt","alg":"ES256"}`)) + "." + parts[1] + "." + parts[2],
	} {
		if _, err := v.Verify(t.Context(), text, target); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Verify(t.Context(), good, target); err != nil {
		t.Error("the good one:", err)
	}
	noToken := target
	noToken.Token = ""
	with, _ := Sign(t.Context(), key, target, v.Nonce(), c.now())
	if _, err := v.Verify(t.Context(), with, noToken); !errors.Is(err, ErrInvalid) {
		t.Error("ath without a token:", err)
	}
}

func TestMatrix135TwoHeaders(t *testing.T) {
	h := http.Header{}
	if _, err := Header(h); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	h.Add("DPoP", "a")
	if text, err := Header(h); text != "a" || err != nil {
		t.Error(text, err)
	}
	h.Add("dpop", "a")
	if _, err := Header(h); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// 134: nonces are good for two further minutes at least, and for three at most; all nodes with the secret
// accept them.
func TestMatrix134NonceLife(t *testing.T) {
	c := newClock()
	c.t = c.t.Truncate(time.Minute).Add(59 * time.Second)
	one, two := NewNonces(secret, c.now), NewNonces(secret, c.now)
	nonce := one.Next(time.Time{})
	if again := two.Next(time.Time{}); again != nonce {
		t.Errorf("two nodes: %s, %s", nonce, again)
	}
	for _, s := range []struct {
		after time.Duration
		ok    bool
	}{{0, true}, {time.Minute, true}, {time.Minute, true}, {2 * time.Second, false}, {2 * time.Minute, false}} {
		c.add(s.after)
		if _, ok := two.Made(nonce); ok != s.ok {
			t.Errorf("at %v: %v", c.now(), ok)
		}
	}
	if one.Next(time.Time{}) == nonce {
		t.Error("nonces do not rotate")
	}
	c.add(-10 * time.Minute) // a clock that went back, or of a node that is behind
	if _, ok := one.Made(nonce); ok {
		t.Error("a nonce from the future")
	}
}

// 137: after a restart, proofs that were used before are refused by either memory. Stored accepts new
// proofs with the nonce of before.
func TestMatrix137Restart(t *testing.T) {
	for name, open := range map[string]func(*clock) func() Replays{
		"memory": func(*clock) func() Replays { return func() Replays { return &Memory{} } },
		"stored": func(c *clock) func() Replays {
			kv := memory.New(memory.Config{Now: c.now}).KV
			return func() Replays { return &Stored{KV: kv, Prefix: "proof/"} }
		},
	} {
		c := newClock()
		key := newKey(t, crypto.P256)
		replays := open(c)
		before := &Verifier{Nonces: NewNonces(secret, c.now), Replays: replays(), Now: c.now}
		nonce := before.Nonce()
		used, err := Sign(t.Context(), key, target, nonce, c.now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := before.Verify(t.Context(), used, target); err != nil {
			t.Fatal(err)
		}
		c.add(time.Second)
		after := &Verifier{Nonces: NewNonces(secret, c.now), Replays: replays(), Now: c.now}
		if _, err := after.Verify(t.Context(), used, target); !errors.Is(err, ErrReplayed) && !errors.Is(err, ErrNonce) {
			t.Errorf("%s: a replay after the restart: %v", name, err)
		}
		fresh, _ := Sign(t.Context(), key, target, nonce, c.now())
		_, err = after.Verify(t.Context(), fresh, target)
		if name == "stored" && err != nil || name == "memory" && !errors.Is(err, ErrNonce) {
			t.Errorf("%s: the old nonce: %v", name, err)
		}
		retry, _ := Sign(t.Context(), key, target, after.Nonce(), c.now())
		if _, err := after.Verify(t.Context(), retry, target); err != nil {
			t.Errorf("%s: one retry is not enough: %v", name, err)
		}
	}
}

// Of uses at the same time, one succeeds, by whatever node.
func TestRace(t *testing.T) {
	c := newClock()
	key := newKey(t, crypto.P256)
	kv := memory.New(memory.Config{Now: c.now}).KV
	one := &Memory{}
	for name, replays := range map[string][2]Replays{
		"memory": {one, one}, "stored": {&Stored{KV: kv, Prefix: "p/"}, &Stored{KV: kv, Prefix: "p/"}},
	} {
		var nodes [2]*Verifier
		for i := range nodes {
			nodes[i] = &Verifier{Nonces: NewNonces(secret, c.now), Replays: replays[i], Now: c.now}
		}
		text, err := Sign(t.Context(), key, target, nodes[0].Nonce(), c.now())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		results := make(chan error, 16)
		for i := range 16 {
			wg.Go(func() {
				_, err := nodes[i%2].Verify(t.Context(), text, target)
				results <- err
			})
		}
		wg.Wait()
		close(results)
		good := 0
		for err := range results {
			if err == nil {
				good++
			} else if !errors.Is(err, ErrReplayed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if good != 1 {
			t.Errorf("%s: %d uses of one proof", name, good)
		}
	}
}

// A memory that is full forgets nothing that could be used again.
func TestMemoryBound(t *testing.T) {
	c := newClock()
	m := &Memory{Max: 10}
	v := &Verifier{Nonces: NewNonces(secret, c.now), Replays: m, Now: c.now}
	key := newKey(t, crypto.P256)
	var texts []string
	accepted := make(map[string]bool)
	for range 100 {
		c.add(10 * time.Millisecond)
		text, err := Sign(t.Context(), key, target, v.Nonce(), c.now())
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
		for _, text := range texts {
			_, err := v.Verify(t.Context(), text, target)
			if err == nil && accepted[text] {
				t.Fatal("used twice")
			}
			accepted[text] = accepted[text] || err == nil
		}
		if len(m.uses) > 10 {
			t.Fatalf("%d are remembered", len(m.uses))
		}
	}
	for _, text := range texts {
		if !accepted[text] {
			t.Error("a proof with a new nonce was refused")
		}
	}
	c.add(time.Hour)
	text, _ := Sign(t.Context(), key, target, v.Nonce(), c.now())
	if _, err := v.Verify(t.Context(), text, target); err != nil || len(m.uses) != 1 {
		t.Errorf("an hour later: %v, %d are remembered", err, len(m.uses))
	}
}

// What fails in the store is no fault of the proof.
func TestStoreFails(t *testing.T) {
	c := newClock()
	v := &Verifier{Nonces: NewNonces(secret, c.now), Replays: &Stored{KV: memory.New(memory.Config{Now: c.now}).KV, Prefix: "p/"}, Now: c.now}
	text, err := Sign(t.Context(), newKey(t, crypto.P256), target, v.Nonce(), c.now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, text, target); !errors.Is(err, context.Canceled) || errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestWrongUse(t *testing.T) {
	for name, fn := range map[string]func(){
		"a short secret": func() { NewNonces([]byte("short"), nil) },
		"no replays":     func() { (&Verifier{}).Verify(t.Context(), "x", target) },
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "dpop: ") {
					t.Errorf("%s: %q", name, s)
				}
			}()
			fn()
		}()
	}
	for name, key := range map[string]crypto.Signer{"nil": nil, "a nil key": (*crypto.PrivateKey)(nil)} {
		if _, err := Sign(t.Context(), key, target, "", time.Now()); err == nil {
			t.Errorf("signed by %s", name)
		}
	}
	if _, err := Sign(t.Context(), newKey(t, crypto.P256), Target{Method: "GET", URL: "/path"}, "", time.Now()); err == nil {
		t.Error("signed for no address")
	}
}

// TestThumbprint has the example of RFC 9449, 6.1 for the token's hash, and of a key.
func TestThumbprint(t *testing.T) {
	key, err := crypto.JWK{KeyType: "EC", Curve: "P-256", X: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", Y: "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if got := Thumbprint(key); got != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Error(got)
	}
	if got := TokenHash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"); got != "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" {
		t.Error(got)
	}
}

func FuzzVerify(f *testing.F) {
	c := newClock()
	key := newKey(f, crypto.P256)
	nonces := NewNonces(secret, c.now)
	good, err := Sign(context.Background(), key, target, nonces.Next(time.Time{}), c.now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("..")
	f.Add("eyJ0eXAiOiJkcG9wK2p3dCJ9.e30.AA")
	f.Fuzz(func(t *testing.T, text string) {
		v := &Verifier{Nonces: nonces, Replays: &Memory{}, Now: c.now}
		_ = v.Nonce()
		p, err := v.Verify(t.Context(), text, target)
		switch {
		case err == nil && !p.Key.Equal(key.PublicKey()):
			t.Fatalf("%q is good", text)
		case err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNonce):
			t.Fatal(err)
		}
	})
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://a.example/%2e%2E/b/./c", "http://[::1]:80/", "https://a.example", "https://a.example:443//x/..", "https://A/%zz%2", "https://a\xa1/", "https://a/" + strings.Repeat("\xa1", maxURL-100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := normalURL(s)
		if err != nil || len(n) > maxURL { // escaped, it is longer
			return
		}
		if again, err := normalURL(n); err != nil || again != n {
			t.Fatalf("%q: %q, then %q, %v", s, n, again, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for name, replays := range map[string]Replays{"memory": &Memory{}, "stored": &Stored{KV: memory.New(memory.Config{}).KV}} {
		b.Run(name, func(b *testing.B) {
			v := &Verifier{Nonces: NewNonces(secret, nil), Replays: replays}
			key := newKey(b, crypto.P256)
			nonce := v.Nonce()
			texts := make([]string, b.N)
			for i := range texts {
				texts[i], _ = Sign(b.Context(), key, target, nonce, time.Now())
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := v.Verify(b.Context(), texts[i], target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("signature alone", func(b *testing.B) {
		key := newKey(b, crypto.P256)
		msg := make([]byte, 500)
		sig, _ := key.Sign(b.Context(), msg)
		for b.Loop() {
			if key.PublicKey().VerifyJWS(msg, sig) != nil {
				b.Fatal("bad")
			}
		}
	})
}
