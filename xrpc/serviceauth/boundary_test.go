package serviceauth_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
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
