package serviceauth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// A good token counts under the scheme Bearer alone.
func TestSchemesThatAreNotBearer(t *testing.T) {
	key := generate(t, crypto.K256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()}}}
	authenticate := v.Authenticator(nil)
	const method = "com.example.whoami"
	token := func() string {
		return sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, Method: method})
	}
	for header, ok := range map[string]bool{
		"Bearer " + token(): true, "bearer " + token(): true, "BEARER  " + token(): true,
		"Basic " + token(): false, "DPoP " + token(): false, token(): false, "Bearer": false, "Bearer ": false, "": false,
		"Bearer" + token(): false, " Bearer " + token(): false,
	} {
		r := &xrpc.Request{Request: (&http.Request{Header: http.Header{"Authorization": {header}}}).WithContext(t.Context()), NSID: method}
		p, err := authenticate(r)
		if ok && (err != nil || p.DID != issuer) {
			t.Errorf("%.12q: %v", header, err)
		}
		if !ok && !errors.Is(err, &xrpc.Error{Name: "MissingJwt"}) {
			t.Errorf("%.12q: %v, %v", header, p, err)
		}
	}
}

// A key may be looked up again when the interval is over, and not before.
func TestRefreshesAtTheInterval(t *testing.T) {
	now := time.Now()
	r := &resolver{doc: &identity.Document{ID: issuer, VerificationMethods: []identity.VerificationMethod{
		identity.NewVerificationMethod(issuer, "atproto", generate(t, crypto.K256).PublicKey()),
	}}}
	k := &serviceauth.DocumentKeys{Resolver: r, Now: func() time.Time { return now }}
	for _, step := range []struct {
		later time.Duration
		want  int
	}{{0, 1}, {30*time.Second - 1, 1}, {1, 2}, {time.Second, 2}, {29 * time.Second, 3}} {
		now = now.Add(step.later)
		if _, err := k.Key(context.Background(), issuer, "atproto", true); err != nil {
			t.Fatal(err)
		}
		if r.purged != step.want {
			t.Errorf("%v later: %d refreshes, want %d", step.later, r.purged, step.want)
		}
	}
}

var errUnread = errors.New("unread")

// unreadable is a store that cannot be read, and would take all that is written.
type unreadable struct{ storage.KV }
type unreadableTx struct{ storage.KVTx }

func (unreadable) Write(_ context.Context, fn func(storage.KVTx) error) error {
	return fn(unreadableTx{})
}

func (unreadableTx) Get(context.Context, string) ([]byte, error)          { return nil, errUnread }
func (unreadableTx) Set(context.Context, string, []byte, time.Time) error { return nil }

// While it is unknown whether a token was used, it is not taken.
func TestTokensWhoseUseIsUnknown(t *testing.T) {
	key := generate(t, crypto.K256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: &keys{cached: map[string]*crypto.PublicKey{issuer + "#atproto": key.PublicKey()}},
		Replays: &serviceauth.Replays{KV: unreadable{}}}
	if _, err := v.Verify(t.Context(), sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience}), ""); !errors.Is(err, errUnread) {
		t.Error(err)
	}
}

// A request that is given up while a key is looked up ends with its context's error, not with one that
// blames the token.
func TestGivenUpWhileAKeyIsLookedUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	key := generate(t, crypto.K256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: noKey{identity.ErrUnavailable}}
	if _, err := v.Verify(ctx, sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience}), ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A token may be 8 KiB long, and no longer.
func TestTokensOfTheGreatestLength(t *testing.T) {
	key := generate(t, crypto.K256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()}}
	const most = 8 << 10
	seen := map[int]bool{}
	for pad := range 20 {
		token := sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience, ID: strings.Repeat("x", 5920+pad)})
		seen[len(token)] = true
		_, err := v.Verify(t.Context(), token, "")
		if ok := len(token) <= most; ok && err != nil || !ok && !errors.Is(err, &xrpc.Error{Name: "BadJwt"}) {
			t.Errorf("%d bytes: %v", len(token), err)
		}
	}
	if !seen[most] || !seen[most+1] {
		t.Error("no token was as long as the limit")
	}
}

// Replays remembers Max tokens. For one more it forgets those that expire first.
func TestReplaysRememberSoMany(t *testing.T) {
	key := generate(t, crypto.K256)
	now := time.Now()
	const most = 4
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()},
		Replays: &serviceauth.Replays{Max: most}, Now: func() time.Time { return now }}
	var tokens []string
	use := func(i int) error {
		_, err := v.Verify(t.Context(), tokens[i], "")
		return err
	}
	for i := range most + 1 {
		tokens = append(tokens, sign(t, key, serviceauth.Token{Issuer: fmt.Sprintf("did:web:i%d.example", i), Audience: audience,
			Issued: now, Expires: now.Add(time.Duration(i+1) * time.Minute)}))
	}
	for i := range most {
		if err := use(i); err != nil {
			t.Fatal(err)
		}
	}
	replayed := &xrpc.Error{Name: "JwtReplayed"}
	for i := range most {
		if err := use(i); !errors.Is(err, replayed) {
			t.Errorf("token %d of %d: %v", i, most, err)
		}
	}
	if err := use(most); err != nil {
		t.Error(err)
	}
	for i := 1; i <= most; i++ {
		if err := use(i); !errors.Is(err, replayed) {
			t.Errorf("token %d after one more: %v", i, err)
		}
	}
	if err := use(0); err != nil {
		t.Errorf("the one that expires first: %v", err)
	}
	// However few they are, an issuer may use one.
	second := sign(t, key, serviceauth.Token{Issuer: "did:web:i2.example", Audience: audience, Issued: now, Expires: now.Add(time.Minute)})
	if _, err := v.Verify(t.Context(), second, ""); !errors.Is(err, &xrpc.Error{Status: http.StatusTooManyRequests}) {
		t.Errorf("the second token of an issuer: %v", err)
	}
	now = now.Add(time.Hour) // they have expired
	third := sign(t, key, serviceauth.Token{Issuer: "did:web:i2.example", Audience: audience, Issued: now, Expires: now.Add(time.Minute)})
	if _, err := v.Verify(t.Context(), third, ""); err != nil {
		t.Errorf("the next token of an issuer: %v", err)
	}
}

// Strangers have any number of DIDs. Of some 10,000 it is known when their documents were fetched
// again; until that is long enough ago, no others are.
func TestRefreshesOfManyIssuers(t *testing.T) {
	now := time.Now()
	r := &resolver{}
	k := &serviceauth.DocumentKeys{Resolver: r, Now: func() time.Time { return now }}
	refresh := func(i int) int {
		_, _ = k.Key(t.Context(), syntax.DID(fmt.Sprintf("did:web:i%d.example", i)), "atproto", true)
		return r.purged
	}
	const most = 10_000
	for i := range most {
		if i == most/2 {
			now = now.Add(10 * time.Second)
		}
		if got := refresh(i); got != i+1 {
			t.Fatalf("%d refreshes of %d issuers", got, i+1)
		}
	}
	if got := refresh(most); got != most {
		t.Errorf("one more was refreshed: %d", got)
	}
	now = now.Add(20 * time.Second) // for the first half, the interval is over
	if got := refresh(most); got != most+1 {
		t.Errorf("%d refreshes when there is room again", got)
	}
	if got := refresh(most - 1); got != most+1 {
		t.Errorf("%d refreshes: one was forgotten too early", got)
	}
	if got := refresh(0); got != most+2 {
		t.Errorf("%d refreshes: one is not forgotten", got)
	}
	now = now.Add(-time.Hour) // what the clock said before was in the future
	for i := range most {
		refresh(most + i)
	}
	if got := r.purged; got != most+2+most {
		t.Errorf("%d refreshes after the clock has gone back", got)
	}
}

// A key is parsed once for a document, also where several keys of it take turns.
func TestKeysThatTakeTurns(t *testing.T) {
	r := &resolver{doc: &identity.Document{ID: issuer, VerificationMethods: []identity.VerificationMethod{
		identity.NewVerificationMethod(issuer, "atproto", generate(t, crypto.K256).PublicKey()),
		identity.NewVerificationMethod(issuer, "atproto_label", generate(t, crypto.P256).PublicKey()),
	}}}
	k := &serviceauth.DocumentKeys{Resolver: r}
	var first [2]*crypto.PublicKey
	for range 2 {
		for i, fragment := range []string{"atproto", "atproto_label"} {
			key, err := k.Key(t.Context(), issuer, fragment, false)
			if err != nil {
				t.Fatal(err)
			}
			if first[i] == nil {
				first[i] = key
			} else if key != first[i] {
				t.Errorf("%s was parsed again", fragment)
			}
		}
	}
}

// The header of a token names its type, its algorithm and, only where the caller says so, its key. Times
// and ID are those that the caller gives.
func TestWhatSignWrites(t *testing.T) {
	key := generate(t, crypto.P256)
	at := time.Unix(1_700_000_000, 0)
	for given, want := range map[string]string{
		"": `{"typ":"JWT","alg":"ES256"}`, "atproto_label": `{"typ":"JWT","alg":"ES256","kid":"#atproto_label"}`,
		"#atproto_label": `{"typ":"JWT","alg":"ES256","kid":"#atproto_label"}`,
	} {
		token := sign(t, key, serviceauth.Token{Issuer: "did:web:a.example", Audience: "did:web:b.example", ID: "x", Issued: at, Expires: at.Add(time.Hour), KeyID: given})
		parts := strings.Split(token, ".")
		header, err1 := base64.RawURLEncoding.DecodeString(parts[0])
		payload, err2 := base64.RawURLEncoding.DecodeString(parts[1])
		if err1 != nil || err2 != nil || string(header) != want ||
			string(payload) != `{"iss":"did:web:a.example","aud":"did:web:b.example","exp":1700003600,"iat":1700000000,"jti":"x"}` {
			t.Errorf("%q: %s.%s", given, header, payload)
		}
	}
}

// The times of a token count to the second and no longer.
func TestTokensAtTheBoundsOfTime(t *testing.T) {
	key := generate(t, crypto.K256)
	at := time.Unix(1_800_000_000, 0)
	now := at
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()}, Now: func() time.Time { return now }}
	for name, x := range map[string]struct {
		claims string
		now    time.Duration // after at
		want   string
	}{
		"expired":                 {`"exp":1800000000`, 10 * time.Second, ""},
		"expired for too long":    {`"exp":1800000000`, 10*time.Second + 1, "JwtExpired"},
		"issued by a fast clock":  {`"exp":1800000060,"iat":1800000060`, 0, ""},
		"issued in the future":    {`"exp":1800000060,"iat":1800000060`, -1, "BadJwt"},
		"good from now on":        {`"exp":1800000060,"nbf":1800000060`, 0, ""},
		"good from later on":      {`"exp":1800000060,"nbf":1800000060`, -1, "BadJwt"},
		"good for an hour":        {`"exp":1800003660`, 0, ""},
		"good for longer":         {`"exp":1800003660`, -1, "BadJwt"},
		"issued before all times": {`"exp":1800000060,"iat":-1e300,"nbf":-1e300`, 0, ""},
	} {
		now = at.Add(x.now)
		token := raw(t, key, map[string]any{"alg": "ES256K"}, `{"iss":"`+issuer+`","aud":"`+audience+`",`+x.claims+`}`)
		_, err := v.Verify(t.Context(), token, "")
		if x.want == "" && err != nil || x.want != "" && !errors.Is(err, &xrpc.Error{Name: x.want}) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// counted counts look-ups. The second is of a network that is down.
type counted struct {
	key   *crypto.PublicKey
	calls int
}

func (c *counted) Key(_ context.Context, _ syntax.DID, _ string, refresh bool) (*crypto.PublicKey, error) {
	c.calls++
	if refresh {
		return nil, identity.ErrUnavailable
	}
	return c.key, nil
}

// An algorithm that is none here costs no look-up. A signature that is not one of the issuer's key stays
// a bad one while the issuer cannot be asked for another key: otherwise a stranger could make answers say
// that the network is down.
func TestBadTokensWhileTheNetworkIsDown(t *testing.T) {
	key, other := generate(t, crypto.K256), generate(t, crypto.K256)
	claims := map[string]any{"iss": issuer, "aud": audience, "exp": time.Now().Add(time.Minute).Unix()}
	for alg, calls := range map[string]int{"none": 0, "HS256": 0, "ES256K": 2} {
		keys := &counted{key: key.PublicKey()}
		v := &serviceauth.Verifier{Audience: []string{audience}, Keys: keys}
		_, err := v.Verify(t.Context(), raw(t, other, map[string]any{"alg": alg}, claims), "")
		if !errors.Is(err, &xrpc.Error{Status: http.StatusUnauthorized, Name: "BadJwtSignature"}) || keys.calls != calls {
			t.Errorf("%s: %v after %d look-ups, want %d", alg, err, keys.calls, calls)
		}
	}
}

// A token has one form: base64 that ignores the ends of lines would give it others.
func TestTokensWithLineEnds(t *testing.T) {
	key := generate(t, crypto.K256)
	v := &serviceauth.Verifier{Audience: []string{audience}, Keys: anyKey{key.PublicKey()}}
	good := sign(t, key, serviceauth.Token{Issuer: issuer, Audience: audience})
	for _, bad := range []string{good + "\n", good + "\r\n", "\n" + good, good[:len(good)-5] + "\n" + good[len(good)-5:]} {
		if _, err := v.Verify(t.Context(), bad, ""); !errors.Is(err, &xrpc.Error{Name: "BadJwt"}) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := v.Verify(t.Context(), good, ""); err != nil {
		t.Error(err)
	}
}
