package client

import (
	"fmt"
	"slices"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Server is the part of an authorization server's metadata (RFC 8414) that clients use.
type Server struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Push          string `json:"pushed_authorization_request_endpoint"`
	Revocation    string `json:"revocation_endpoint"` // empty: there is none

	Scopes         []string `json:"scopes_supported"`
	ResponseTypes  []string `json:"response_types_supported"`
	GrantTypes     []string `json:"grant_types_supported"`
	Challenges     []string `json:"code_challenge_methods_supported"`
	AuthMethods    []string `json:"token_endpoint_auth_methods_supported"`
	AuthAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	Algorithms     []string `json:"dpop_signing_alg_values_supported"`
	Prompts        []string `json:"prompt_values_supported"` // may be empty
	Resources      []string `json:"protected_resources"`     // may be empty

	NamesIssuer      bool  `json:"authorization_response_iss_parameter_supported"`
	RequiresPush     bool  `json:"require_pushed_authorization_requests"`
	ReadsClientID    bool  `json:"client_id_metadata_document_supported"`
	RequestsRequired *bool `json:"require_request_uri_registration"`
}

// Names of the profile.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	authNone     = "none"
	authKey      = "private_key_jwt"
	methodS256   = "S256"
	algES256     = "ES256"
)

// parseServer reads the metadata of an issuer and checks all that the profile demands.
func parseServer(text []byte, issuer string, development bool) (*Server, error) {
	bad := func(format string, args ...any) (*Server, error) {
		return nil, fmt.Errorf("%w: metadata of %s: %w", ErrServer, issuer, fmt.Errorf(format, args...))
	}
	s := &Server{}
	if err := exactjson.UnmarshalPlain(text, s); err != nil {
		return bad("%w", err)
	}
	if s.Issuer != issuer {
		return nil, fmt.Errorf("%w: %s has the metadata of the issuer %.200q", ErrMismatch, issuer, s.Issuer)
	}
	for _, e := range []struct{ name, address string }{
		{"authorization_endpoint", s.Authorization}, {"token_endpoint", s.Token}, {"pushed_authorization_request_endpoint", s.Push},
		{"revocation_endpoint", s.Revocation},
	} {
		if e.name == "revocation_endpoint" && e.address == "" {
			continue
		}
		if _, err := parseAddress(e.address, development); err != nil {
			return bad("%s %w", e.name, err)
		}
	}
	for _, l := range []struct {
		name, want string
		list       []string
	}{
		{"scopes_supported", auth.Atproto, s.Scopes},
		{"response_types_supported", "code", s.ResponseTypes},
		{"grant_types_supported", grantCode, s.GrantTypes},
		{"code_challenge_methods_supported", methodS256, s.Challenges},
		{"token_endpoint_auth_methods_supported", authNone, s.AuthMethods},
		{"dpop_signing_alg_values_supported", algES256, s.Algorithms},
	} {
		if !slices.Contains(l.list, l.want) {
			return bad("%s lacks %s", l.name, l.want)
		}
	}
	switch {
	case !s.NamesIssuer:
		return bad("authorization_response_iss_parameter_supported is not true")
	case !s.RequiresPush:
		return bad("require_pushed_authorization_requests is not true")
	case !s.ReadsClientID:
		return bad("client_id_metadata_document_supported is not true")
	case s.RequestsRequired != nil && !*s.RequestsRequired:
		return bad("require_request_uri_registration is false")
	}
	return s, nil
}

// protects reports whether the server does not deny that it speaks for a PDS.
func (s *Server) protects(pds string) bool {
	return len(s.Resources) == 0 || slices.Contains(s.Resources, pds)
}
