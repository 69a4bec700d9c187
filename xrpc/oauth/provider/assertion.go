package provider

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// clientAuth is how a client has shown who it is.
type clientAuth struct {
	Method string `json:"method"`
	KeyID  string `json:"kid,omitempty"`
	// Thumbprint is the thumbprint of the key.
	Thumbprint string `json:"jkt,omitempty"`

	bound string // the thumbprint of the only DPoP key that the assertion is for; empty: any
}

// assertionType is that of RFC 7523.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Limits of assertions.
const (
	maxAssertion    = 8 << 10
	assertionAge    = time.Minute      // since it was made
	assertionAhead  = 30 * time.Second // of the clock here
	assertionLife   = 10 * time.Minute // until it expires
	maxAssertionJTI = 512
)

// authenticate finds out which client makes a request, and checks that it is it.
func (p *Provider) authenticate(ctx context.Context, in params) (c client, as clientAuth, err error) {
	id := in["client_id"]
	if id == "" {
		return c, as, fail(codeInvalidClient, "client_id is missing")
	}
	if c, err = p.client(ctx, id); err != nil {
		return c, as, err
	}
	assertion, kind := in["client_assertion"], in["client_assertion_type"]
	if in["client_secret"] != "" {
		return c, as, fail(codeInvalidClient, "client_secret is not supported")
	}
	switch {
	case c.AuthMethod == authNone && assertion == "" && kind == "":
		return c, clientAuth{Method: authNone}, nil
	case c.AuthMethod == authNone:
		return c, as, fail(codeInvalidClient, "The client metadata declares no client authentication")
	case kind != assertionType:
		return c, as, fail(codeInvalidClient, "client_assertion_type must be %s", assertionType)
	}
	as, err = p.checkAssertion(ctx, c, assertion)
	return c, as, err
}

// audience is a string or a list of strings.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if exactjson.UnmarshalPlain(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	return exactjson.UnmarshalPlain(text, (*[]string)(a))
}

// assertionParts is an assertion that was read and not verified.
type assertionParts struct {
	head struct {
		Alg  string          `json:"alg"`
		Key  string          `json:"kid"`
		Crit json.RawMessage `json:"crit"`
	}
	claims struct {
		Issuer   string   `json:"iss"`
		Subject  string   `json:"sub"`
		Audience audience `json:"aud"`
		ID       string   `json:"jti"`
		Issued   *float64 `json:"iat"`
		Expires  *float64 `json:"exp"`
		Before   *float64 `json:"nbf"`
		Confirm  *struct {
			Thumbprint string `json:"jkt"`
		} `json:"cnf"`
	}
	signed string
	sig    []byte
}

func parseAssertion(text string) (a assertionParts, ok bool) {
	one, rest, _ := strings.Cut(text, ".")
	two, three, found := strings.Cut(rest, ".")
	if !found || len(text) > maxAssertion || !decodePart(one, &a.head) || !decodePart(two, &a.claims) {
		return a, false
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(three)
	a.signed, a.sig = one+"."+two, sig
	return a, err == nil
}

func decodePart(part string, to any) bool {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return err == nil && exactjson.UnmarshalPlain(text, to) == nil
}

// checkAssertion verifies an assertion (RFC 7523), and notes that it was used.
func (p *Provider) checkAssertion(ctx context.Context, c client, text string) (as clientAuth, err error) {
	bad := func(format string, args ...any) (clientAuth, error) {
		return clientAuth{}, fail(codeInvalidClient, "client_assertion: "+format, args...)
	}
	a, ok := parseAssertion(text)
	if !ok {
		return bad("malformed")
	}
	now := p.now()
	switch {
	case !slices.Contains(dpop.Algorithms(), a.head.Alg):
		return bad("alg must be one of %s", strings.Join(dpop.Algorithms(), ", "))
	case a.head.Crit != nil:
		return bad("crit is not understood")
	case a.head.Key == "":
		return bad("kid is missing")
	case a.claims.Issuer != c.id || a.claims.Subject != c.id:
		return bad("iss and sub must be the client_id")
	case !slices.Contains(a.claims.Audience, p.cfg.Issuer):
		return bad("aud must be %s", p.cfg.Issuer)
	case a.claims.ID == "" || len(a.claims.ID) > maxAssertionJTI:
		return bad("jti must have 1 to %d bytes", maxAssertionJTI)
	case a.claims.Issued == nil || a.claims.Expires == nil:
		return bad("iat and exp must be there")
	}
	issued, expires := seconds(*a.claims.Issued), seconds(*a.claims.Expires)
	switch {
	case now.Sub(issued) > assertionAge:
		return bad("it is more than %v old", assertionAge)
	case issued.Sub(now) > assertionAhead, a.claims.Before != nil && seconds(*a.claims.Before).Sub(now) > assertionAhead:
		return bad("it is from the future")
	case !now.Before(expires):
		return bad("it has expired")
	case expires.Sub(now) > assertionLife:
		return bad("it must expire within %v", assertionLife)
	}
	set, err := p.keys(ctx, c)
	if err != nil {
		return as, err
	}
	key := set.keys[a.head.Key]
	if key == nil || key.Algorithm().String() != a.head.Alg || key.VerifyJWS([]byte(a.signed), a.sig) != nil {
		return bad("it is not signed with a key of the client")
	}
	use := dpop.Use{Thumbprint: "assertion " + c.id, ID: a.claims.ID, Expires: expires.Add(time.Second)}
	if err := p.cfg.Replays.Use(ctx, use, now); errors.Is(err, dpop.ErrReplayed) {
		return bad("its jti was used before")
	} else if err != nil {
		return as, err
	}
	as = clientAuth{Method: authPrivateKey, KeyID: a.head.Key, Thumbprint: dpop.Thumbprint(key)}
	if a.claims.Confirm != nil {
		as.bound = a.claims.Confirm.Thumbprint
	}
	return as, nil
}

// seconds is a time in a token.
func seconds(n float64) time.Time {
	return time.Unix(int64(min(max(n, 0), math.MaxInt32*1000)), 0)
}
