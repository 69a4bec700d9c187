package serviceauth_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

const (
	issuer   = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	audience = "did:web:pds.example.com"
	method   = "com.atproto.server.createAccount"
)

// keys is a directory of keys: what a cache has, and what is true.
type keys struct {
	cached, fresh map[string]*crypto.PublicKey
	refreshes     int
}

func (k *keys) Key(_ context.Context, did syntax.DID, fragment string, refresh bool) (*crypto.PublicKey, error) {
	m := k.cached
	if refresh {
		m = k.fresh
		k.refreshes++
	}
	key := m[string(did)+"#"+fragment]
	if key == nil {
		return nil, errors.New("no such key")
	}
	return key, nil
}

func generate(t testing.TB, alg crypto.Algorithm) *crypto.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, key crypto.Signer, tok serviceauth.Token) string {
	t.Helper()
	s, err := serviceauth.Sign(context.Background(), key, tok)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// raw signs any header and payload.
func raw(t testing.TB, key *crypto.PrivateKey, header, payload any) string {
	t.Helper()
	part := func(v any) string {
		if s, ok := v.(string); ok {
			return base64.RawURLEncoding.EncodeToString([]byte(s))
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(payload)
	sig, err := key.Sign(context.Background(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestVerify(t *testing.T) {
	ctx := context.Background()
	for _, alg := range []crypto.Algorithm{crypto.K256, crypto.P256} {
		t.Run(alg.String(), func(t *testing.T) {
			key, other := generate(t, alg), generate(t, alg)
			wrongCurve := generate(t, crypto.K256+crypto.P256-alg)
			dir := &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey(), issuer + "#atproto_label": other.PublicKey()}}
			dir.fresh = dir.cached
			v := &serviceauth.Verifier{Audience: []string{audience, audience + "#atproto_pds"}, Keys: dir, KeyIDs: []string{"atproto", "atproto_label"}, Replays: &serviceauth.Replays{}}
			name := "ES256K"
			if alg == crypto.P256 {
				name = "ES256"
			}
			now := time.Now()
			claims := func(change ...any) map[string]any {
				m := map[string]any{"iss": issuer, "aud": audience, "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "lxm": method, "jti": rand.Text()}
				for i := 0; i < len(change); i += 2 {
					m[change[i].(string)] = change[i+1]
					if change[i+1] == nil {
						delete(m, change[i].(string))
					}
				}
				return m
			}
			head := map[string]any{"typ": "JWT", "alg": name}
			good := sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method})
			parts := strings.Split(good, ".")
			nameless := raw(t, key, head, claims("jti", nil))
			tests := []struct{ name, token, want string }{
				{"good", good, ""},
				{"the same again", good, "JwtReplayed"},
				{"another audience of ours", sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience + "#atproto_pds", Method: method}), ""},
				{"issued by a labeler", sign(t, other, serviceauth.Token{Issuer: issuer + "#atproto_labeler", Audience: audience, Method: method}), ""},
				{"with the name of the key", sign(t, other, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method, KeyID: "#atproto_label"}), ""},
				{"with another name of the key", sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method, KeyID: "atproto"}), ""},
				{"without an ID", nameless, ""},
				{"without an ID, again", nameless, "JwtReplayed"},
				{"another one with a used ID", raw(t, key, head, claims("jti", "once")), ""},
				{"another one with a used ID, again", raw(t, key, head, claims("jti", "once", "exp", now.Add(3*time.Minute).Unix())), "JwtReplayed"},
				{"for a long time", raw(t, key, head, claims("exp", now.Add(2*time.Hour).Unix())), "BadJwt"},
				{"for ever", raw(t, key, head, claims("exp", 1e300)), "BadJwt"},
				{"critical headers", raw(t, key, map[string]any{"typ": "JWT", "alg": name, "crit": []string{"exp"}}, claims()), "BadJwt"},
				{"a key for other purposes", raw(t, key, map[string]any{"typ": "JWT", "alg": name, "kid": "#atproto_pds"}, claims()), "BadJwtSignature"},
				{"issued by another service", sign(t, key, serviceauth.Token{Issuer: issuer + "#bsky_fg", Audience: audience, Method: method}), "BadJwtIss"},
				{"issued by a fragment of a fragment", sign(t, key, serviceauth.Token{Issuer: issuer + "#atproto_labeler#x", Audience: audience, Method: method}), "BadJwtIss"},
				{"no token", "", "BadJwt"},
				{"not a token", "a.b", "BadJwt"},
				{"garbage", "!.!.!", "BadJwt"},
				{"an endless one", strings.Repeat("a", 1<<20), "BadJwt"},
				{"a payload that is a list", raw(t, key, head, "[]"), "BadJwt"},
				{"without expiry", raw(t, key, head, claims("exp", nil)), "BadJwt"},
				{"expiry as text", raw(t, key, head, claims("exp", "tomorrow")), "BadJwt"},
				{"an audience that is a list", raw(t, key, head, claims("aud", []string{audience})), "BadJwt"},
				{"expired", raw(t, key, head, claims("exp", now.Add(-time.Minute).Unix())), "JwtExpired"},
				{"of the future", raw(t, key, head, claims("iat", now.Add(time.Hour).Unix())), "BadJwt"},
				{"not before later", raw(t, key, head, claims("nbf", now.Add(time.Hour).Unix())), "BadJwt"},
				{"for somebody else", raw(t, key, head, claims("aud", "did:web:other.example.com")), "BadJwtAudience"},
				{"for another method", raw(t, key, head, claims("lxm", "com.atproto.repo.createRecord")), "BadJwtLexiconMethod"},
				{"for no method", raw(t, key, head, claims("lxm", nil)), "BadJwtLexiconMethod"},
				{"issued by no DID", raw(t, key, head, claims("iss", "alice.test")), "BadJwtIss"},
				{"issued by nobody we can find", raw(t, key, head, claims("iss", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")), "BadJwtSignature"},
				{"an access token", raw(t, key, map[string]any{"typ": "at+jwt", "alg": name}, claims()), "BadJwtType"},
				{"a proof of possession", raw(t, key, map[string]any{"typ": "dpop+jwt", "alg": name}, claims()), "BadJwtType"},
				{"alg none", raw(t, key, map[string]any{"typ": "JWT", "alg": "none"}, claims()), "BadJwtSignature"},
				{"alg HS256", raw(t, key, map[string]any{"typ": "JWT", "alg": "HS256"}, claims()), "BadJwtSignature"},
				{"alg of the other curve", raw(t, key, map[string]any{"typ": "JWT", "alg": map[string]string{"ES256": "ES256K", "ES256K": "ES256"}[name]}, claims()), "BadJwtSignature"},
				{"a key of the other curve", raw(t, wrongCurve, head, claims()), "BadJwtSignature"},
				{"another key", raw(t, other, head, claims()), "BadJwtSignature"},
				{"a name of a key that is not there", raw(t, key, map[string]any{"typ": "JWT", "alg": name, "kid": "#none"}, claims()), "BadJwtSignature"},
				{"no signature", parts[0] + "." + parts[1] + ".", "BadJwtSignature"},
				{"a signature with another payload", parts[0] + "." + strings.Split(raw(t, other, head, claims()), ".")[1] + "." + parts[2], "BadJwtSignature"},
				{"high s", highS(t, raw(t, key, head, claims("jti", "high")), alg), ""},
				{"high s, again with low s", raw(t, key, head, claims("jti", "high")), "JwtReplayed"},
				{"high s of another key", highS(t, raw(t, other, head, claims()), alg), "BadJwtSignature"},
				{"high s of another payload", swapPayload(highS(t, raw(t, key, head, claims()), alg), raw(t, other, head, claims())), "BadJwtSignature"},
				{"s of zero", withS(t, raw(t, key, head, claims()), 0), "BadJwtSignature"},
				{"s beyond the order", withS(t, raw(t, key, head, claims()), 0xff), "BadJwtSignature"},
				{"of the near future", raw(t, key, head, claims("iat", now.Add(55*time.Second).Unix())), ""},
				{"not before the near future", raw(t, key, head, claims("nbf", now.Add(55*time.Second).Unix())), ""},
				{"of a future too far", raw(t, key, head, claims("iat", now.Add(65*time.Second).Unix())), "BadJwt"},
				{"expired just now", raw(t, key, head, claims("exp", now.Add(-5*time.Second).Unix())), ""},
				{"expired for too long", raw(t, key, head, claims("exp", now.Add(-12*time.Second).Unix())), "JwtExpired"},
				{"a claim in another case", raw(t, key, head, claims("lxm", nil, "LXM", method)), "BadJwtLexiconMethod"},
				{"a claim also in another case", raw(t, key, head, claims("Lxm", "com.atproto.repo.createRecord", "AUD", "did:web:other.example.com")), ""},
				{"a claim twice", raw(t, key, head, strings.Replace(claimText(t, claims()), "{", `{"lxm":"com.atproto.repo.createRecord",`, 1)), "BadJwt"},
				{"a header in another case", raw(t, key, map[string]any{"typ": "JWT", "ALG": name}, claims()), "BadJwt"},
				{"a header twice", raw(t, key, `{"typ":"JWT","alg":"none","alg":"`+name+`"}`, claims()), "BadJwt"},
				{"an unknown header twice", raw(t, key, `{"typ":"JWT","alg":"`+name+`","x":1,"x":2}`, claims()), "BadJwt"},
				{"text that is not Unicode", raw(t, key, head, strings.Replace(claimText(t, claims()), "{", `{"x":"\ud800",`, 1)), "BadJwt"},
				{"padding", good + "=", "BadJwt"},
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					tok, err := v.Verify(ctx, tt.token, method)
					var told *xrpc.Error
					switch {
					case tt.want == "" && err != nil:
						t.Error(err)
					case tt.want == "" && string(tok.DID()) != issuer:
						t.Errorf("token %+v", tok)
					case tt.want != "" && (!errors.As(err, &told) || told.Name != tt.want || told.Status != 401):
						t.Errorf("error %v, want %s", err, tt.want)
					}
				})
			}
		})
	}
}

func claimText(t testing.TB, claims map[string]any) string {
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// swapPayload gives a token the payload of another one.
func swapPayload(token, other string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + strings.Split(other, ".")[1] + "." + parts[2]
}

// withS replaces each byte of s in the signature of a token.
func withS(t testing.TB, token string, b byte) string {
	i := strings.LastIndex(token, ".")
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil {
		t.Fatal(err)
	}
	for j := range sig[32:] {
		sig[32+j] = b
	}
	return token[:i+1] + base64.RawURLEncoding.EncodeToString(sig)
}

// highS gives the signature of a token its other form.
func highS(t testing.TB, token string, alg crypto.Algorithm) string {
	order := "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	if alg == crypto.P256 {
		order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
	}
	n, _ := new(big.Int).SetString(order, 16)
	i := strings.LastIndex(token, ".")
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil {
		t.Fatal(err)
	}
	new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(sig[32:])
	return token[:i+1] + base64.RawURLEncoding.EncodeToString(sig)
}

// A token that is good for a while after its expiry is remembered for that long, also when the
// minute changes.
func TestReplayInGrace(t *testing.T) {
	key := generate(t, crypto.K256)
	now := time.Date(2026, 1, 1, 12, 0, 50, 0, time.UTC)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()}},
		Replays: &serviceauth.Replays{}, Now: func() time.Time { return now }}
	token := sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Issued: now, Expires: now.Add(9 * time.Second)})
	verify := func() error {
		_, err := v.Verify(context.Background(), token, "")
		return err
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(15 * time.Second) // 12:01:05, after the expiry at 12:00:59
	if err := verify(); !errors.Is(err, &xrpc.Error{Name: "JwtReplayed"}) {
		t.Error(err)
	}
	now = now.Add(5 * time.Second)
	if err := verify(); !errors.Is(err, &xrpc.Error{Name: "JwtExpired"}) {
		t.Error(err)
	}
	v.Grace, now = -1, now.Add(-10*time.Second)
	if err := verify(); !errors.Is(err, &xrpc.Error{Name: "JwtExpired"}) {
		t.Errorf("without grace: %v", err)
	}
}

// TestRotatedKey: a key that has changed since it was cached is looked up once more.
func TestRotatedKey(t *testing.T) {
	old, key := generate(t, crypto.K256), generate(t, crypto.K256)
	dir := &keys{
		cached: map[string]*crypto.PublicKey{issuer + "#atproto": old.PublicKey()},
		fresh:  map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()},
	}
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: dir}
	if _, err := v.Verify(context.Background(), sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience}), ""); err != nil || dir.refreshes != 1 {
		t.Errorf("%v after %d refreshes", err, dir.refreshes)
	}
	if _, err := v.Verify(context.Background(), sign(t, old, serviceauth.Token{Issuer: issuer, Audience: audience}), ""); err != nil {
		t.Error(err)
	}
	third := generate(t, crypto.K256) // neither the key before nor the one after
	if _, err := v.Verify(context.Background(), sign(t, third, serviceauth.Token{Issuer: issuer, Audience: audience}), ""); !errors.Is(err, &xrpc.Error{Status: 401, Name: "BadJwtSignature"}) {
		t.Error(err)
	}
}

// By default, an account's key is the only one.
func TestLabelersAreNotAccounts(t *testing.T) {
	key := generate(t, crypto.K256)
	dir := &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey(), issuer + "#atproto_label": key.PublicKey()}}
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: dir}
	for _, tok := range []serviceauth.Token{
		{Issuer: issuer + "#atproto_labeler", Audience: audience},
		{Issuer: issuer, Audience: audience, KeyID: "atproto_label"},
	} {
		if _, err := v.Verify(context.Background(), sign(t, key, tok), ""); !errors.Is(err, &xrpc.Error{Status: 401, Name: "BadJwtSignature"}) {
			t.Errorf("%+v: %v", tok, err)
		}
	}
}

// anyKey has one key for all.
type anyKey struct{ key *crypto.PublicKey }

func (k anyKey) Key(context.Context, syntax.DID, string, bool) (*crypto.PublicKey, error) {
	return k.key, nil
}

// TestReplayFlood: memory is bounded; one issuer cannot fill it, and many cannot shut
// out anybody.
// noKey is a network in which no key can be found.
type noKey struct{ err error }

func (k noKey) Key(context.Context, syntax.DID, string, bool) (*crypto.PublicKey, error) {
	return nil, k.err
}

// TestIssuerThatCannotBeResolved: a token that may be a good one is not called a bad one.
func TestIssuerThatCannotBeResolved(t *testing.T) {
	key := generate(t, crypto.K256)
	token := sign(t, key, serviceauth.Token{Issuer: string(issuer), Audience: "did:web:pds.example.com", Method: "com.example.x"})
	for err, status := range map[error]int{identity.ErrUnavailable: 502, identity.ErrNotFound: 401, identity.ErrTombstoned: 401, identity.ErrDocument: 401} {
		v := serviceauth.Verifier{Audience: []string{"did:web:pds.example.com"}, Keys: noKey{fmt.Errorf("%w: 10.0.0.7", err)}}
		_, got := v.Verify(context.Background(), token, "com.example.x")
		var told *xrpc.Error
		if !errors.As(got, &told) || told.Status != status || strings.Contains(told.Message, "10.0.0.7") {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestReplayFlood(t *testing.T) {
	key := generate(t, crypto.K256)
	now := time.Now()
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()}, Replays: &serviceauth.Replays{Max: 100}, Now: func() time.Time { return now }}
	token := func(issuer string, life time.Duration) string {
		return sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Issued: now, Expires: now.Add(life)})
	}
	use := func(token string) error {
		_, err := v.Verify(context.Background(), token, "")
		return err
	}
	limited := &xrpc.Error{Status: 429, Name: "RateLimitExceeded"}
	for range 10 {
		if err := use(token(issuer, 10*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := use(token(issuer, time.Minute)); !errors.Is(err, limited) {
		t.Errorf("one issuer beyond its bound: %v", err)
	}
	last := token("did:web:last.example", time.Hour)
	if err := use(last); err != nil {
		t.Error(err)
	}
	for i := range 150 { // at its bound, memory keeps what is good for longest
		if err := use(token(fmt.Sprintf("did:web:i%d.example", i), 20*time.Minute)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := use(last); !errors.Is(err, &xrpc.Error{Name: "JwtReplayed"}) {
		t.Errorf("after the flood: %v", err)
	}
	now = now.Add(30 * time.Minute)
	for range 10 {
		if err := use(token(issuer, time.Minute)); err != nil {
			t.Errorf("after they expired: %v", err)
		}
	}
}

// resolver counts what DocumentKeys asks of it.
type resolver struct {
	doc            *identity.Document
	purged, looked int
}

func (r *resolver) ResolveDID(context.Context, syntax.DID) (*identity.Document, error) {
	r.looked++
	if r.doc == nil {
		return nil, identity.ErrNotFound
	}
	return r.doc, nil
}

func (r *resolver) Purge(syntax.AtIdentifier) { r.purged++ }

func TestDocumentKeys(t *testing.T) {
	ctx := context.Background()
	first, second, label := generate(t, crypto.K256), generate(t, crypto.P256), generate(t, crypto.K256)
	document := func(key *crypto.PrivateKey) *identity.Document {
		return &identity.Document{ID: issuer, VerificationMethods: []identity.VerificationMethod{
			identity.NewVerificationMethod(issuer, "atproto", key.PublicKey()),
			identity.NewVerificationMethod(issuer, "atproto_label", label.PublicKey()),
		}}
	}
	now := time.Now()
	r := &resolver{doc: document(first)}
	k := &serviceauth.DocumentKeys{Resolver: r, Now: func() time.Time { return now }}
	want := func(fragment string, refresh bool, key *crypto.PrivateKey, purged int) {
		t.Helper()
		got, err := k.Key(ctx, issuer, fragment, refresh)
		if err != nil || !got.Equal(key.PublicKey()) || r.purged != purged {
			t.Errorf("%s: %v, %v after %d purges", fragment, got, err, r.purged)
		}
	}
	want("atproto", false, first, 0)
	want("atproto", false, first, 0)
	want("atproto_label", false, label, 0)
	if a, _ := k.Key(ctx, issuer, "atproto", false); a != mustKey(t, k) {
		t.Error("the key was parsed again")
	}
	r.doc = document(second)
	want("atproto", false, second, 0)
	want("atproto", true, second, 1)
	want("atproto", true, second, 1) // so soon
	now = now.Add(time.Minute)
	want("atproto", true, second, 2)
	if _, err := k.Key(ctx, issuer, "none", false); !errors.Is(err, identity.ErrDocument) {
		t.Error(err)
	}
	r.doc = nil
	if _, err := k.Key(ctx, issuer, "atproto", false); !errors.Is(err, identity.ErrNotFound) {
		t.Error(err)
	}
}

func mustKey(t *testing.T, k *serviceauth.DocumentKeys) *crypto.PublicKey {
	t.Helper()
	key, err := k.Key(context.Background(), issuer, "atproto", false)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Bad signatures, which cost nothing to make, do not make the host fetch documents.
func TestBadSignaturesAreNoFetches(t *testing.T) {
	key, other := generate(t, crypto.K256), generate(t, crypto.K256)
	r := &resolver{doc: &identity.Document{ID: issuer, VerificationMethods: []identity.VerificationMethod{
		identity.NewVerificationMethod(issuer, "atproto", key.PublicKey()),
	}}}
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &serviceauth.DocumentKeys{Resolver: r}}
	for range 20 {
		if _, err := v.Verify(context.Background(), sign(t, other, serviceauth.Token{Issuer: issuer, Audience: audience}), ""); !errors.Is(err, &xrpc.Error{Name: "BadJwtSignature"}) {
			t.Error(err)
		}
	}
	if r.purged != 1 {
		t.Errorf("%d purges", r.purged)
	}
}

func TestAuthenticator(t *testing.T) {
	key := generate(t, crypto.P256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()}}}
	srv := &xrpc.Server{}
	srv.Handle(xrpc.Route{
		NSID: "com.example.whoami",
		Auth: v.Authenticator(nil),
		Handler: xrpc.Query(func(_ context.Context, r *xrpc.Request, _ struct{}) (map[string]any, error) {
			return map[string]any{"did": r.Principal.DID}, nil
		}),
	})
	host := httptest.NewServer(srv)
	defer host.Close()
	c := &xrpc.Client{Host: host.URL}
	if err := c.Query(context.Background(), "com.example.whoami", nil, nil); !errors.Is(err, &xrpc.Error{Status: 401, Name: "MissingJwt"}) {
		t.Error(err)
	}
	for name, bad := range map[string]string{"BadJwt": "garbage", "BadJwtLexiconMethod": sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: "com.example.other"})} {
		c.Authorize = func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+bad)
			return nil
		}
		if err := c.Query(context.Background(), "com.example.whoami", nil, nil); !errors.Is(err, &xrpc.Error{Status: 401, Name: name}) {
			t.Error(err)
		}
	}
	c.Authorize = func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: "com.example.whoami"}))
		return nil
	}
	var out struct {
		DID string `json:"did"`
	}
	if err := c.Query(context.Background(), "com.example.whoami", nil, &out); err != nil || out.DID != issuer {
		t.Error(out, err)
	}
}

func FuzzVerify(f *testing.F) {
	key := generate(f, crypto.K256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()}}}
	good := sign(f, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method})
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := v.Verify(context.Background(), token, method); err == nil && token != good {
			t.Errorf("accepted %q", token)
		}
	})
}

// BenchmarkVerify shows that verification is dominated by the signature: beyond does both in turn,
// and gives what a token takes beyond the bare verification of its signature, in percent of that,
// by the best times.
//
// Last table (2 cores of a virtual machine,
// `go test -run '^$' -bench . -count 3 ./xrpc/serviceauth`):
//
//	ES256K/token      135 µs  37 allocs    ES256K/signature  141 µs    ES256K/beyond  3.0 %
//	ES256/token        77 µs  46 allocs    ES256/signature    77 µs    ES256/beyond   5.4 %
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []crypto.Algorithm{crypto.K256, crypto.P256} {
		key := generate(b, alg)
		v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()}}}
		token := sign(b, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method, Expires: time.Now().Add(time.Hour)})
		i := strings.LastIndex(token, ".")
		sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
		if err != nil {
			b.Fatal(err)
		}
		verify := func() {
			if _, err := v.Verify(context.Background(), token, method); err != nil {
				b.Fatal(err)
			}
		}
		bare := func() {
			if err := key.PublicKey().Verify([]byte(token[:i]), sig); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(alg.String()+"/token", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				verify()
			}
		})
		b.Run(alg.String()+"/signature", func(b *testing.B) {
			for b.Loop() {
				bare()
			}
		})
		b.Run(alg.String()+"/beyond", func(b *testing.B) {
			best := [2]time.Duration{time.Hour, time.Hour}
			for b.Loop() {
				for i, run := range []func(){verify, bare} {
					start := time.Now()
					run()
					best[i] = min(best[i], time.Since(start))
				}
			}
			b.ReportMetric(100*float64(best[0]-best[1])/float64(best[1]), "%-beyond-signature")
			b.ReportMetric(0, "ns/op")
		})
	}
}
