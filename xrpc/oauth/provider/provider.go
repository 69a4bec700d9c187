package provider

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/loadcache"
	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// Config configures a Provider. Accounts, Issuer, ServiceDID, Secret, Logins and Pages are
// required.
type Config struct {
	// Accounts are the accounts of the host.
	Accounts *account.Store
	// Issuer is the origin of this server as clients know it, "https://pds.example.com".
	Issuer string
	// ServiceDID is the DID of this server, the audience of access tokens.
	ServiceDID syntax.DID
	// Secret has at least 32 random bytes. All nodes of a server have the same. If it changes,
	// access tokens and pending authorizations become void. Sessions continue, since clients renew
	// their tokens.
	Secret []byte
	// Logins says which accounts are signed in in a browser. Pages shows prompts to users.
	Logins Logins
	Pages  Pages

	// Trusted are the client_ids of apps that the operator vouches for. Their names are shown, and
	// they have the lifetimes of confidential clients.
	Trusted []string
	// Sets resolves the permission sets in "include:" scopes. Nil: such scopes are dropped like
	// unknown ones.
	Sets Sets
	// HTTP fetches the documents of clients. It must follow no redirects, refuse addresses that are
	// not public, and bound time and size. Nil: a client of package safehttp.
	HTTP *http.Client
	// Replays remembers used proofs and assertions at the endpoints of this package; CallReplays
	// does so for methods. Nil Replays: they are kept in the KV of the accounts' store, with one
	// write each. Nil CallReplays: the same as Replays. A host with a single process sets
	// CallReplays to a &dpop.Memory{}.
	Replays, CallReplays dpop.Replays
	// Limit, if not nil, bounds how often endpoints are used. It is called for each request with
	// the name of the endpoint ("par", "token", "revoke", "authorize") and an empty client, and
	// again when the client_id is known. Its error becomes the response, so it should be a
	// *limit.Error or an *Error.
	Limit func(r *http.Request, endpoint, client string) error
	// Allowed, if not nil, is called when the user has granted an app more than before, so that the
	// host can notify the owner by mail. It runs in the goroutine of the consent form, before the
	// response. It is not called if an app gets only what it had before, except for a program on
	// the user's own device, since nobody can tell which program that is. It is not called if the
	// process crashes before the response.
	Allowed func(r *http.Request, a account.Account, x Allowance)
	// MaxPending bounds how many authorization requests this process accepts in five minutes, their
	// lifetime. 0: 20,000.
	MaxPending int
	// Locales are the languages of Pages (BCP 47), for the metadata. It may be empty.
	Locales []string
	// Documentation is the URL of a page for developers, for the metadata. It may be empty.
	Documentation string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger logs failures that no response reports. Nil: nothing is logged.
	Logger *slog.Logger
}

// Allowance describes what a user has granted to an app.
type Allowance struct {
	Client Client
	// Granted is all that is granted now. New is the part that the account had not granted to the
	// app before.
	Granted auth.Permissions
	New     []auth.Scope
	At      time.Time
}

// Sets resolves permission sets. It must be safe for concurrent use, and cache results.
type Sets interface {
	// Expand returns the scopes that a permission set grants, for an "include:" scope: see
	// auth.Scope.Include. An error means that the set does not exist, or cannot be fetched at the
	// moment.
	Expand(ctx context.Context, include auth.Scope) ([]auth.Scope, error)
}

// Provider is an OAuth authorization server for the accounts of a host. It also verifies the tokens
// that it has issued. Make one with New. It is safe for concurrent use. Several processes may have
// Providers over the same store.
type Provider struct {
	cfg       Config
	kv        storage.KV
	accounts  *account.Store
	http      *http.Client
	now       func() time.Time
	log       *slog.Logger
	secrets   derived
	proofs    *dpop.Verifier // at the endpoints of this package
	calls     *dpop.Verifier // at methods
	documents *loadcache.Cache[string, *document]
	sessions  *memo.Texts[*session] // by the JSON that they are stored as
	fetching  limit.Gate            // of documents
	pending   pending
}

// derived are the keys that are made of Config.Secret, one for each purpose.
type derived struct{ access, code, refresh, form []byte }

// minSecret is the length in bytes of the shortest secret.
const minSecret = 32

// New returns the provider of a configuration. It registers with the accounts, so that sessions end
// when an account's credentials change. It panics if something required is missing. Call it before
// the accounts are used.
func New(cfg Config) *Provider {
	u, err := url.Parse(cfg.Issuer)
	switch {
	case cfg.Accounts == nil:
		panic("provider: Config.Accounts is missing: give the account.Store of the host")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || cfg.Issuer != u.Scheme+"://"+u.Host:
		panic("provider: Config.Issuer must be the origin of this server, without a path or a slash at the end, as https://pds.example.com")
	case cfg.ServiceDID == "":
		panic("provider: Config.ServiceDID is missing: give the DID of this server, as did:web:pds.example.com")
	case len(cfg.Secret) < minSecret:
		panic("provider: Config.Secret is too short: give at least 32 random bytes, the same for all nodes and always")
	case cfg.Logins == nil:
		panic("provider: Config.Logins is missing: it says who is signed in in a browser")
	case cfg.Pages == nil:
		panic("provider: Config.Pages is missing: it shows people what they are asked")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = safehttp.NewClient(safehttp.Config{Timeout: fetchTimeout, MaxBody: maxDocument, MaxRedirects: -1})
	}
	if cfg.Limit == nil {
		cfg.Limit = func(*http.Request, string, string) error { return nil }
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 20_000
	}
	kv := cfg.Accounts.Host().Store().KV
	if cfg.Replays == nil {
		cfg.Replays = &dpop.Stored{KV: kv, Prefix: proofPrefix}
	}
	if cfg.CallReplays == nil {
		cfg.CallReplays = cfg.Replays
	}
	nonces := dpop.NewNonces(digest.Derive(cfg.Secret, "pdskit oauth: dpop nonces"), cfg.Now)
	p := &Provider{
		cfg: cfg, kv: kv, accounts: cfg.Accounts, http: safehttp.WithoutRedirects(cfg.HTTP), now: cfg.Now, log: cfg.Logger,
		secrets: derived{
			access: digest.Derive(cfg.Secret, "pdskit oauth: access tokens"), code: digest.Derive(cfg.Secret, "pdskit oauth: authorization codes"),
			refresh: digest.Derive(cfg.Secret, "pdskit oauth: refresh tokens"), form: digest.Derive(cfg.Secret, "pdskit oauth: forms"),
		},
		proofs:   &dpop.Verifier{Nonces: nonces, Replays: cfg.Replays, Now: cfg.Now},
		calls:    &dpop.Verifier{Nonces: nonces, Replays: cfg.CallReplays, Now: cfg.Now},
		sessions: memo.NewTexts[*session](maxParsed, maxParsedBytes),
		pending:  pending{max: cfg.MaxPending},
	}
	p.documents = p.newDocuments()
	p.fetching = limit.Gate{Name: "client metadata", Total: 64, PerNetwork: 16, Reserved: 16, Queue: 512, QueuePerNetwork: 64, Wait: fetchTimeout / 2}
	cfg.Accounts.OnRaise(raised)
	return p
}

// Limits on the cache of parsed sessions: their number and bytes, at some 4 KiB each.
const (
	maxParsed      = 5000
	maxParsedBytes = 16 << 10
)

// Paths of the endpoints.
const (
	pathResource   = "/.well-known/oauth-protected-resource"
	pathServer     = "/.well-known/oauth-authorization-server"
	pathKeys       = "/oauth/jwks"
	pathPAR        = "/oauth/par"
	pathAuthorize  = "/oauth/authorize"
	pathToken      = "/oauth/token"
	pathRevocation = "/oauth/revoke"
)

// Handler serves the two documents below /.well-known and everything below /oauth. Route those
// paths to it.
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, h := range p.handlers() {
		mux.Handle(path, h)
	}
	return mux
}

// Mount adds all paths to a mux.
func (p *Provider) Mount(mux *http.ServeMux) {
	for path, h := range p.handlers() {
		mux.Handle(path, h)
	}
}

func (p *Provider) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		pathResource:   p.document(p.resourceMetadata()),
		pathServer:     p.document(p.serverMetadata()),
		pathKeys:       p.document(map[string]any{"keys": []any{}}),
		pathPAR:        p.endpoint("par", http.StatusCreated, p.par),
		pathToken:      p.endpoint("token", http.StatusOK, p.token),
		pathRevocation: p.endpoint("revoke", http.StatusOK, p.revoke),
		pathAuthorize:  http.HandlerFunc(p.authorize),
	}
}

// document serves a document that is public and seldom changes.
func (p *Provider) document(v any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		allowOrigins(h)
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			h.Set("Cache-Control", "public, max-age=300")
			p.writeJSON(w, http.StatusOK, v)
		case http.MethodOptions:
			w.WriteHeader(http.StatusOK)
		default:
			h.Set("Allow", "GET, HEAD, OPTIONS")
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
}

// resourceMetadata is the document of RFC 9728.
func (p *Provider) resourceMetadata() map[string]any {
	m := map[string]any{
		"resource": p.cfg.Issuer, "authorization_servers": []string{p.cfg.Issuer},
		"scopes_supported": []string{}, "bearer_methods_supported": []string{"header"},
		"dpop_signing_alg_values_supported": dpop.Algorithms(), "dpop_bound_access_tokens_required": true,
	}
	if p.cfg.Documentation != "" {
		m["resource_documentation"] = p.cfg.Documentation
	}
	return m
}

// serverMetadata is the document of RFC 8414.
func (p *Provider) serverMetadata() map[string]any {
	at := func(path string) string { return p.cfg.Issuer + path }
	m := map[string]any{
		"issuer":                                                p.cfg.Issuer,
		"authorization_endpoint":                                at(pathAuthorize),
		"token_endpoint":                                        at(pathToken),
		"revocation_endpoint":                                   at(pathRevocation),
		"pushed_authorization_request_endpoint":                 at(pathPAR),
		"jwks_uri":                                              at(pathKeys),
		"scopes_supported":                                      []string{auth.Atproto, auth.TransitionEmail, auth.TransitionGeneric, auth.TransitionChat},
		"subject_types_supported":                               []string{"public"},
		"response_types_supported":                              []string{"code"},
		"response_modes_supported":                              []string{modeQuery, modeFragment, modeForm},
		"grant_types_supported":                                 []string{grantCode, grantRefresh},
		"code_challenge_methods_supported":                      []string{"S256"},
		"prompt_values_supported":                               prompts,
		"token_endpoint_auth_methods_supported":                 []string{authNone, authPrivateKey},
		"token_endpoint_auth_signing_alg_values_supported":      dpop.Algorithms(),
		"revocation_endpoint_auth_methods_supported":            []string{authNone, authPrivateKey},
		"revocation_endpoint_auth_signing_alg_values_supported": dpop.Algorithms(),
		"dpop_signing_alg_values_supported":                     dpop.Algorithms(),
		"authorization_response_iss_parameter_supported":        true,
		"request_parameter_supported":                           false,
		"request_uri_parameter_supported":                       true,
		"require_request_uri_registration":                      true,
		"require_pushed_authorization_requests":                 true,
		"client_id_metadata_document_supported":                 true,
		"protected_resources":                                   []string{p.cfg.Issuer},
	}
	if p.cfg.Documentation != "" {
		m["service_documentation"] = p.cfg.Documentation
	}
	if len(p.cfg.Locales) > 0 {
		m["ui_locales_supported"] = p.cfg.Locales
	}
	return m
}

// Keys in the host's namespace.
const (
	requestPrefix = "oauth/request/" // HASH of the request's name: a request; expires
	proofPrefix   = "oauth/proof/"   // digest: a proof or assertion that was used; expires
)

// Keys in an account's namespace.
const (
	sessionPrefix   = "oauth/session/"   // NAME: a session; expires
	codePrefix      = "oauth/code/"      // HASH: a code; expires
	challengePrefix = "oauth/challenge/" // HASH: a code challenge that was used; expires
	grantPrefix     = "oauth/grant/"     // HASH of the client_id: what was granted
)

// version is that of everything that is stored. Documents of a version that is not known are
// refused.
const version = 1

func parseDID(s string) (syntax.DID, bool) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return "", false
	}
	did, err := syntax.ParseDID(string(text))
	return did, err == nil
}

// secretText is a code or a refresh token: a prefix, the name of what it is for, a secret, and
// the account that it is stored with, so that it is found in one read.
type secretText struct {
	did          syntax.DID
	name, secret string
}

func (s secretText) String(prefix string) string {
	return prefix + s.name + "." + s.secret + "." + base64.RawURLEncoding.EncodeToString([]byte(s.did))
}

// maxSecretText is the length in bytes of the longest one.
const maxSecretText = 4 << 10

func parseSecret(prefix, text string) (s secretText, ok bool) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) > maxSecretText {
		return s, false
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || strings.Contains(parts[0], "/") {
		return s, false
	}
	did, ok := parseDID(parts[2])
	return secretText{did, parts[0], parts[1]}, ok
}
