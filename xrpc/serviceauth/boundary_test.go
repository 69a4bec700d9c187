package serviceauth_test

import (
	"context"
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
