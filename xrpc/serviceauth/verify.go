package serviceauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Keys finds the keys of issuers.
type Keys interface {
	// Key returns the key with a fragment, such as "atproto", from an issuer's DID document. With
	// refresh it should not answer from a cache.
	Key(ctx context.Context, did syntax.DID, fragment string, refresh bool) (*crypto.PublicKey, error)
}

// Verifier verifies tokens. Audience and Keys are required. It is safe for concurrent use.
type Verifier struct {
	// Audience are the names of this service: its DID, alone and with the fragments of its
	// services. Without any, no token is accepted.
	Audience []string
	// Keys finds the issuers' keys.
	Keys Keys
	// KeyIDs are the fragments of the keys that issuers may sign with. Other keys in their
	// documents have other purposes. Nil: that of an account, "atproto". With "atproto_label",
	// labelers are accepted too, including those that use "did#atproto_labeler" instead of the
	// key's fragment.
	KeyIDs []string
	// MaxLife is how far in the future a token may expire. 0: one hour.
	MaxLife time.Duration
	// Replays, if not nil, refuses the second use of a token, identified by its ID or, if it has
	// none, by its content.
	Replays *Replays
	// Skew is how far in the future a token may have been issued, since the issuer's clock may be
	// ahead. 0: 60 seconds.
	Skew time.Duration
	// Grace is how long after its expiry a token is accepted, since the issuer's clock may be
	// behind and requests take time. 0: 10 seconds; negative: none.
	Grace time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Validate returns an error that names what is missing.
func (v *Verifier) Validate() error {
	switch {
	case v == nil:
		return errors.New("serviceauth: no Verifier")
	case len(v.Audience) == 0:
		return errors.New("serviceauth: Verifier.Audience is missing")
	case v.Keys == nil:
		return errors.New("serviceauth: Verifier.Keys is missing")
	}
	return nil
}

// fail is an error by the names that services of the network use.
func fail(name, message string) error {
	return &xrpc.Error{Status: http.StatusUnauthorized, Name: name, Message: message}
}

// Verify verifies a token for a method (empty: any method). Its error is the context's, or an
// *xrpc.Error with status 401 and one of the names BadJwt, BadJwtType, JwtExpired, BadJwtAudience,
// BadJwtLexiconMethod, BadJwtIss, BadJwtSignature and JwtReplayed, or the error of Replays for an
// issuer with too many tokens. A Verifier that is not valid (see Validate) gives another error,
// since that is not the token's fault.
func (v *Verifier) Verify(ctx context.Context, token, method string) (Token, error) {
	if err := v.Validate(); err != nil {
		return Token{}, err
	}
	p, ok := parse(token)
	if !ok {
		return Token{}, fail("BadJwt", "poorly formatted jwt")
	}
	if !strings.EqualFold(p.typ, "JWT") && p.typ != "" {
		return Token{}, fail("BadJwtType", "Invalid jwt type")
	}
	now, skew, grace, life := time.Now, v.Skew, v.Grace, v.MaxLife
	if v.Now != nil {
		now = v.Now
	}
	if skew == 0 {
		skew = time.Minute
	}
	if grace == 0 {
		grace = 10 * time.Second
	}
	grace = max(grace, 0)
	if life == 0 {
		life = time.Hour
	}
	t := now()
	switch {
	case t.After(p.Expires.Add(grace)):
		return Token{}, fail("JwtExpired", "jwt expired")
	case p.Issued.After(t.Add(skew)), p.before.After(t.Add(skew)):
		return Token{}, fail("BadJwt", "jwt is not valid yet")
	case p.Expires.After(t.Add(life + skew)):
		return Token{}, fail("BadJwt", "jwt is valid for too long")
	case !slices.Contains(v.Audience, p.Audience):
		return Token{}, fail("BadJwtAudience", "jwt audience does not match service did")
	case method != "" && p.Method == "":
		return Token{}, fail("BadJwtLexiconMethod", `missing jwt lexicon method ("lxm"). must match: `+method)
	case method != "" && p.Method != method:
		return Token{}, fail("BadJwtLexiconMethod", `bad jwt lexicon method ("lxm"). must match: `+method)
	}
	if err := v.issuer(&p); err != nil {
		return Token{}, err
	}
	if err := v.signature(ctx, &p); err != nil {
		return Token{}, err
	}
	if v.Replays != nil {
		if err := v.Replays.use(ctx, useOf(p.DID(), p.ID, p.signed), p.Expires.Add(grace), t); err != nil {
			return Token{}, err
		}
	}
	return p.Token, nil
}

// issuer checks the issuer of a token and that its key may be used; it fills in the
// name of the key.
func (v *Verifier) issuer(p *parsed) error {
	did, fragment, has := strings.Cut(p.Issuer, "#")
	if _, err := syntax.ParseDID(did); err != nil || has && fragment != "atproto_labeler" {
		return fail("BadJwtIss", "jwt iss is not a valid did")
	}
	switch {
	case p.KeyID == "" && has:
		p.KeyID = "atproto_label"
	case p.KeyID == "":
		p.KeyID = identity.SigningKeyID
	}
	accepted := v.KeyIDs
	if accepted == nil {
		accepted = []string{identity.SigningKeyID}
	}
	if !slices.Contains(accepted, p.KeyID) {
		return fail("BadJwtSignature", "jwt is signed with a key that is not for this")
	}
	return nil
}

// signature verifies the signature with the issuer's key, and once more with a
// fresh one, in case that it has changed.
func (v *Verifier) signature(ctx context.Context, p *parsed) error {
	bad := fail("BadJwtSignature", "jwt signature does not match jwt issuer")
	if p.alg != crypto.K256.String() && p.alg != crypto.P256.String() {
		return fail("BadJwtSignature", "could not verify jwt signature")
	}
	var first *crypto.PublicKey
	for _, refresh := range []bool{false, true} {
		key, err := v.Keys.Key(ctx, p.DID(), p.KeyID, refresh)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if first == nil && errors.Is(err, identity.ErrUnavailable) { // the token may be a good one
			return &xrpc.Error{Status: http.StatusBadGateway, Message: "could not resolve the jwt issuer at present"}
		} else if err != nil {
			return fail("BadJwtSignature", "could not find the key of the jwt issuer")
		}
		if refresh && key.Equal(first) {
			return bad
		}
		if key.Algorithm().String() == p.alg && key.VerifyJWS(p.signed, p.sig) == nil {
			return nil
		}
		first = key
	}
	return bad
}

// Authenticator returns an authenticator that demands a token for the called method. accept returns
// the principal or refuses the token. If it is nil, the principal is a service (auth.Service) with
// the DID of the issuer and no permissions; its Client is the issuer with its fragment.
// Authenticator panics if the Verifier is not valid: see Validate.
func (v *Verifier) Authenticator(accept func(r *xrpc.Request, t Token) (auth.Principal, error)) xrpc.Authenticator {
	if err := v.Validate(); err != nil {
		panic(err)
	}
	if accept == nil {
		accept = func(_ *xrpc.Request, t Token) (auth.Principal, error) {
			return auth.Principal{Role: auth.Service, Credential: auth.ServiceToken, DID: t.DID(), Client: t.Issuer}, nil
		}
	}
	return func(r *xrpc.Request) (auth.Principal, error) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "bearer") || token == "" {
			return auth.Principal{}, fail("MissingJwt", "missing jwt")
		}
		t, err := v.Verify(r.Context(), strings.TrimSpace(token), string(r.NSID))
		if err != nil {
			return auth.Principal{}, err
		}
		return accept(r, t)
	}
}
