package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Metadata describes a client to servers and users. ID and RedirectURIs are required.
//
// Specification: OAuth, Client ID Metadata Document.
type Metadata struct {
	// ID is the client_id: the https:// URL at which MetadataHandler is served.
	ID string
	// Name, URI, Logo, Terms and Policy are for users: a name, and https:// URLs. URI must have the
	// host of ID. Servers show them for clients that they trust. They may be empty.
	Name, URI, Logo, Terms, Policy string
	// RedirectURIs are the URIs to which browsers may come back. The first one is the default.
	RedirectURIs []string
	// Scope is everything that the client may request. It must include "atproto", which is the
	// default.
	Scope string
	// Native marks a program on a user's own device. It may have redirect URIs with a private
	// scheme, and has no Keys.
	Native bool
	// KeysURI is the https:// URL at which KeysHandler is served. Empty: the metadata contains the
	// keys.
	KeysURI string
}

// loopbackID begins the client_id of programs that have no metadata on the web.
const loopbackID = "http://localhost"

// Loopback returns the metadata of a program on a user's own machine, or of a web app in
// development. Its client_id begins with "http://localhost" and contains the metadata, so servers
// need not fetch anything. The redirect URI is http://127.0.0.1 with a path, such as "/callback",
// and any port. Such a client is public.
//
// Specification: OAuth, Localhost Client Development.
func Loopback(scope, path string) Metadata {
	if scope == "" {
		scope = auth.Atproto
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	redirect := "http://127.0.0.1" + path
	return Metadata{
		ID:           loopbackID + "?" + url.Values{"redirect_uri": {redirect}, "scope": {scope}}.Encode(),
		RedirectURIs: []string{redirect}, Scope: scope, Native: true,
	}
}

func (m *Metadata) loopback() bool { return strings.HasPrefix(m.ID, loopbackID) }

// check checks what servers would refuse.
func (m *Metadata) check(confidential bool) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("oauth client: Config.Metadata: "+format, args...)
	}
	if m.Scope == "" {
		m.Scope = auth.Atproto
	}
	id, err := url.Parse(m.ID)
	switch {
	case m.ID == "":
		return bad("ID is missing: the address at which MetadataHandler is served, as https://app.example.com/oauth-client-metadata.json")
	case err != nil:
		return bad("ID is not an address")
	case m.loopback():
		if confidential {
			return bad("a client at %s is public, so that Keys must be empty", loopbackID)
		}
	case id.Scheme != "https" || id.Host == "" || id.Port() != "" || id.User != nil || id.Fragment != "" || id.Path == "" || id.Path == "/":
		return bad("ID must be an https:// address with a path and without a port")
	}
	scopes := strings.Split(m.Scope, " ")
	switch {
	case !slices.Contains(scopes, auth.Atproto):
		return bad("Scope must contain %s", auth.Atproto)
	case slices.Contains(scopes, ""):
		return bad("Scope has a space too many")
	case m.Native && confidential:
		return bad("a Native client cannot keep Keys secret")
	case len(m.RedirectURIs) == 0:
		return bad("RedirectURIs is empty")
	}
	for _, r := range m.RedirectURIs {
		u, err := url.Parse(r)
		if err != nil || u.Scheme == "" || u.Fragment != "" || u.User != nil || u.Scheme == "http" && !m.Native || u.Scheme != "https" && !m.Native {
			return bad("the redirect URI %s is not one for this kind of client", r)
		}
	}
	return nil
}

// redirects reports whether a redirect URI is one of the client. At 127.0.0.1, it may have any
// port.
func (m *Metadata) redirects(uri string) bool {
	return slices.ContainsFunc(m.RedirectURIs, func(known string) bool {
		if known == uri {
			return true
		}
		k, err1 := url.Parse(known)
		u, err2 := url.Parse(uri)
		if err1 != nil || err2 != nil || k.Scheme != "http" || k.Port() != "" || !isLoopback(k.Hostname()) {
			return false
		}
		return u.Scheme == "http" && u.Hostname() == k.Hostname() && u.EscapedPath() == k.EscapedPath() && u.RawQuery == k.RawQuery &&
			u.User == nil && u.Fragment == ""
	})
}

// declares reports whether all of a scope is in the metadata.
func (m *Metadata) declares(scope string) error {
	all := strings.Split(m.Scope, " ")
	asked := strings.Split(scope, " ")
	for _, s := range asked {
		if !slices.Contains(all, s) {
			return fmt.Errorf("oauth client: the scope %q is not in the client's metadata", s)
		}
	}
	if !slices.Contains(asked, auth.Atproto) {
		return errors.New("oauth client: the scope must contain " + auth.Atproto)
	}
	return nil
}

// keySet is a JWK set of public keys.
type keySet struct {
	Keys []crypto.JWK `json:"keys"`
}

func (c *Client) keySet() keySet {
	out := keySet{Keys: []crypto.JWK{}}
	for _, k := range c.cfg.Keys {
		j := k.Signer.PublicKey().JWK()
		j.KeyID, j.Use, j.Alg = k.ID, "sig", k.Signer.PublicKey().Algorithm().String()
		out.Keys = append(out.Keys, j)
	}
	return out
}

// document is the metadata as servers read them.
type clientDocument struct {
	ID            string   `json:"client_id"`
	Name          string   `json:"client_name,omitempty"`
	URI           string   `json:"client_uri,omitempty"`
	Logo          string   `json:"logo_uri,omitempty"`
	Terms         string   `json:"tos_uri,omitempty"`
	Policy        string   `json:"policy_uri,omitempty"`
	Type          string   `json:"application_type"`
	RedirectURIs  []string `json:"redirect_uris"`
	Scope         string   `json:"scope"`
	GrantTypes    []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types"`
	AuthMethod    string   `json:"token_endpoint_auth_method"`
	AuthAlg       string   `json:"token_endpoint_auth_signing_alg,omitempty"`
	Bound         bool     `json:"dpop_bound_access_tokens"`
	Keys          *keySet  `json:"jwks,omitempty"`
	KeysURI       string   `json:"jwks_uri,omitempty"`
}

func (c *Client) document() clientDocument {
	m := &c.cfg.Metadata
	d := clientDocument{
		ID: m.ID, Name: m.Name, URI: m.URI, Logo: m.Logo, Terms: m.Terms, Policy: m.Policy, Type: "web", RedirectURIs: m.RedirectURIs,
		Scope: m.Scope, GrantTypes: []string{grantCode, grantRefresh}, ResponseTypes: []string{"code"}, AuthMethod: authNone, Bound: true,
	}
	if m.Native {
		d.Type = "native"
	}
	if len(c.cfg.Keys) > 0 {
		d.AuthMethod, d.AuthAlg = authKey, c.cfg.Keys[0].Signer.PublicKey().Algorithm().String()
		if d.KeysURI = m.KeysURI; d.KeysURI == "" {
			set := c.keySet()
			d.Keys = &set
		}
	}
	return d
}

// MetadataHandler serves the client metadata document. Its URL is the client_id.
func (c *Client) MetadataHandler() http.Handler { return jsonHandler(c.document()) }

// KeysHandler serves the public keys of the client (a JWK set), at Metadata.KeysURI.
func (c *Client) KeysHandler() http.Handler { return jsonHandler(c.keySet()) }

func jsonHandler(v any) http.Handler {
	text, err := json.Marshal(v)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
		case err != nil:
			http.Error(w, "metadata cannot be written", http.StatusInternalServerError)
		default:
			h := w.Header()
			h.Set("Content-Type", "application/json")
			h.Set("Access-Control-Allow-Origin", "*")
			h.Set("Cache-Control", "max-age=60")
			w.Write(text)
		}
	})
}
