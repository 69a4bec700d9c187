package provider

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

const (
	authNone       = "none"
	authPrivateKey = "private_key_jwt"
	grantCode      = "authorization_code"
	grantRefresh   = "refresh_token"
)

// metadata is a client metadata document (RFC 7591, and the client_id metadata document draft).
// Members that it does not have are ignored.
type metadata struct {
	ID              string   `json:"client_id"`
	Name            string   `json:"client_name"`
	URI             string   `json:"client_uri"`
	Logo            string   `json:"logo_uri"`
	Terms           string   `json:"tos_uri"`
	Policy          string   `json:"policy_uri"`
	ApplicationType string   `json:"application_type"`
	RedirectURIs    []string `json:"redirect_uris"`
	Scope           string   `json:"scope"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	AuthAlg         string   `json:"token_endpoint_auth_signing_alg"`
	Bound           bool     `json:"dpop_bound_access_tokens"`
	SubjectType     string   `json:"subject_type"`
	JWKSURI         string   `json:"jwks_uri"`
	JWKS            *keySet  `json:"jwks"`

	// Members that this profile does not allow.
	DefaultMaxAge json.RawMessage `json:"default_max_age"`
	UserinfoAlg   json.RawMessage `json:"userinfo_signed_response_alg"`
	UserinfoEnc   json.RawMessage `json:"userinfo_encrypted_response_alg"`
	IDTokenAlg    json.RawMessage `json:"id_token_signed_response_alg"`
	ResponseAlg   json.RawMessage `json:"authorization_encrypted_response_alg"`
	MTLS          *bool           `json:"tls_client_certificate_bound_access_tokens"`
}

// Limits on the contents of a document.
const (
	maxKeys      = 32
	maxRedirects = 64
	maxScopeText = 16 << 10
)

// keySet is a JWK set. Keys that cannot verify an assertion are left out.
type keySet struct {
	keys map[string]*crypto.PublicKey // by their kid
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *keySet) UnmarshalJSON(text []byte) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := exactjson.Unmarshal(text, &set); err != nil {
		return err
	}
	s.keys = make(map[string]*crypto.PublicKey)
	for _, text := range set.Keys {
		var k struct {
			crypto.JWK
			Private json.RawMessage `json:"d"`
		}
		if exactjson.Unmarshal(text, &k) != nil || k.Private != nil || k.KeyID == "" || k.Use != "" && k.Use != "sig" || len(s.keys) == maxKeys {
			continue
		}
		key, err := k.PublicKey()
		if err != nil || k.Alg != "" && k.Alg != key.Algorithm().String() {
			continue
		}
		if _, twice := s.keys[k.KeyID]; !twice {
			s.keys[k.KeyID] = key
		}
	}
	return nil
}

// parseMetadata reads the document of a client.
func parseMetadata(id string, text []byte) (*metadata, error) {
	m := &metadata{}
	if err := exactjson.UnmarshalPlain(text, m); err != nil {
		return nil, fail(codeInvalidMetadata, "The client metadata is malformed: %v", err)
	}
	if m.ApplicationType == "" {
		m.ApplicationType = "web"
	}
	if m.ID != id {
		return nil, fail(codeInvalidMetadata, "client_id in the client metadata is not its address")
	}
	return m, m.check(id)
}

// check checks all fields.
func (m *metadata) check(id string) error {
	bad := func(format string, args ...any) error {
		return fail(codeInvalidMetadata, "client metadata: "+format, args...)
	}
	scopes := strings.Split(m.Scope, " ")
	sorted := slices.Sorted(slices.Values(scopes))
	switch {
	case m.JWKS != nil && m.JWKSURI != "":
		return bad("jwks and jwks_uri must not both be given")
	case m.DefaultMaxAge != nil, m.UserinfoAlg != nil, m.UserinfoEnc != nil, m.IDTokenAlg != nil:
		return bad("OpenID Connect is not supported")
	case m.ResponseAlg != nil:
		return bad("encrypted answers are not supported")
	case m.MTLS != nil && *m.MTLS:
		return bad("tls_client_certificate_bound_access_tokens is not supported")
	case m.SubjectType != "" && m.SubjectType != "public":
		return bad("subject_type must be public")
	case m.ApplicationType != "web" && m.ApplicationType != "native":
		return bad("application_type must be web or native")
	case len(m.Scope) > maxScopeText:
		return bad("scope is longer than %d bytes", maxScopeText)
	case !slices.Contains(scopes, auth.Atproto):
		return bad("scope must contain atproto")
	case len(slices.Compact(sorted)) != len(scopes):
		return bad("scope has a value twice, or two spaces")
	case !m.Bound:
		return bad("dpop_bound_access_tokens must be true")
	case !slices.Contains(m.ResponseTypes, "code"):
		return bad("response_types must contain code")
	case !slices.Contains(m.GrantTypes, grantCode):
		return bad("grant_types must contain %s", grantCode)
	}
	seen := make(map[string]bool)
	for _, g := range m.GrantTypes {
		if g != grantCode && g != grantRefresh {
			return bad("the grant type %s is not supported", short(g))
		}
		if seen[g] {
			return bad("grant_types has a value twice")
		}
		seen[g] = true
	}
	switch m.AuthMethod {
	case authNone:
		if m.AuthAlg != "" {
			return bad("token_endpoint_auth_signing_alg needs %s", authPrivateKey)
		}
	case authPrivateKey:
		switch {
		case m.ApplicationType == "native":
			return bad("native clients cannot use %s", authPrivateKey)
		case m.JWKS == nil && m.JWKSURI == "", m.JWKS != nil && len(m.JWKS.keys) == 0:
			return bad("%s needs jwks or jwks_uri, with a key that has a kid and is one for %s", authPrivateKey, strings.Join(dpop.Algorithms(), " or "))
		case !slices.Contains(dpop.Algorithms(), m.AuthAlg):
			return bad("token_endpoint_auth_signing_alg must be one of %s", strings.Join(dpop.Algorithms(), ", "))
		}
		if m.JWKSURI != "" {
			if err := publicURL(m.JWKSURI); err != nil {
				return bad("jwks_uri %v", err)
			}
		}
	default:
		return bad("token_endpoint_auth_method must be %s or %s", authNone, authPrivateKey)
	}
	return m.checkURIs(id)
}

type problem string

func (p problem) Error() string { return string(p) }

// publicURL checks an address that the server or a person goes to.
func publicURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > maxClientID:
		return problem("is not an address")
	case u.Scheme != "https":
		return problem("must be an https:// address")
	case u.User != nil:
		return problem("must have no credentials")
	case u.Hostname() == "" || isLocalHost(u.Hostname()):
		return problem("must have a public host name")
	}
	return nil
}

func (m *metadata) checkURIs(id string) error {
	if len(m.RedirectURIs) == 0 || len(m.RedirectURIs) > maxRedirects {
		return fail(codeInvalidRedirect, "client metadata: redirect_uris must have 1 to %d values", maxRedirects)
	}
	own, err := url.Parse(id)
	if err != nil {
		return fail(codeInvalidMetadata, "client_id is not an address")
	}
	for _, uri := range m.RedirectURIs {
		if err := m.checkRedirect(uri, own); err != nil {
			return fail(codeInvalidRedirect, "client metadata: the redirect URI %s %v", short(uri), err)
		}
	}
	for name, uri := range map[string]string{"client_uri": m.URI, "logo_uri": m.Logo, "tos_uri": m.Terms, "policy_uri": m.Policy} {
		if uri == "" {
			continue
		}
		if err := publicURL(uri); err != nil {
			return fail(codeInvalidMetadata, "client metadata: %s %v", name, err)
		}
	}
	if m.URI != "" {
		u, err := url.Parse(m.URI)
		if err != nil || u.Host != own.Host {
			return fail(codeInvalidMetadata, "client metadata: client_uri must have the host of client_id")
		}
	}
	return nil
}

// checkRedirect checks a redirect URI that a client registers.
func (m *metadata) checkRedirect(uri string, own *url.URL) error {
	u, err := url.Parse(uri)
	if err != nil || len(uri) > maxClientID || u.Scheme == "" || strings.ContainsAny(uri, " \t\r\n<>\"") {
		return problem("is not an address")
	}
	native := m.ApplicationType == "native"
	switch host := u.Hostname(); {
	case u.User != nil:
		return problem("must have no credentials")
	case u.Fragment != "" || strings.Contains(uri, "#"):
		return problem("must have no fragment")
	case u.Scheme == "http":
		switch {
		case strings.EqualFold(host, "localhost"):
			return problem("must be at 127.0.0.1 or [::1], not localhost")
		case !isLoopbackRedirect(uri):
			return problem("must not be plain HTTP")
		case !native:
			return problem("is only for native clients")
		}
	case u.Scheme == "https":
		switch {
		case host == "" || isIP(host) || isLocalHost(host) || !strings.Contains(host, "."):
			return problem("must have a public host name")
		case native && u.Host != own.Host:
			return problem("of a native client must have the host of client_id")
		}
	default:
		switch {
		case !native:
			return problem("with a scheme of its own is only for native clients")
		case u.Scheme != reversed(own.Hostname()):
			return problem("must have the scheme " + reversed(own.Hostname()))
		case !strings.HasPrefix(uri, u.Scheme+":/") || strings.HasPrefix(uri, u.Scheme+"://"):
			return problem("must have one slash after the scheme")
		}
	}
	return nil
}

// reversed is a host name as the scheme of native apps.
func reversed(host string) string {
	labels := strings.Split(strings.ToLower(host), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}

func isLoopbackRedirect(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Scheme == "http" && u.User == nil && u.Fragment == "" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
}

// redirect returns the redirect URI to use: the one that a request names, if it is registered, or
// the only one that is.
func (m *metadata) redirect(uri string) (string, error) {
	if uri == "" {
		if len(m.RedirectURIs) == 1 {
			return m.RedirectURIs[0], nil
		}
		return "", fail(codeInvalidRequest, "redirect_uri is missing")
	}
	if slices.ContainsFunc(m.RedirectURIs, func(known string) bool { return known == uri || samePortless(known, uri) }) {
		return uri, nil
	}
	return "", fail(codeInvalidRequest, "redirect_uri is none of those in the client metadata")
}

// samePortless compares redirect URIs at the loopback address: a program takes the port that is
// free (RFC 8252, 7.3), unless it has registered one.
func samePortless(known, given string) bool {
	k, err1 := url.Parse(known)
	g, err2 := url.Parse(given)
	return err1 == nil && err2 == nil && isLoopbackRedirect(known) && isLoopbackRedirect(given) &&
		k.Port() == "" && k.Hostname() == g.Hostname() && k.EscapedPath() == g.EscapedPath() &&
		k.RawQuery == g.RawQuery && k.ForceQuery == g.ForceQuery && !strings.HasSuffix(g.Host, ":")
}
