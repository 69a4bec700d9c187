package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// Response modes.
const (
	modeQuery    = "query"
	modeFragment = "fragment"
	modeForm     = "form_post"
)

// Values of prompt.
const (
	promptNone    = "none"
	promptLogin   = "login"
	promptConsent = "consent"
	promptSelect  = "select_account"
	promptCreate  = "create"
)

var prompts = []string{promptNone, promptLogin, promptConsent, promptSelect, promptCreate}

// Lifetimes of a request.
const (
	requestLife = 5 * time.Minute  // from the last time that its page was looked at
	requestMost = time.Hour        // in all
	extendEvery = 10 * time.Second // more time than that is noted: each note is a write
	requestKept = 10 * time.Minute // beyond its life, to tell the client that it is over
	codeLife    = 5 * time.Minute
)

const requestURIPrefix = "urn:ietf:params:oauth:request_uri:req-"

// request is an authorization request as it is stored.
type request struct {
	Version   int        `json:"v"`
	Client    string     `json:"client"`
	Auth      clientAuth `json:"auth"`
	JKT       string     `json:"jkt"`
	Redirect  string     `json:"redirect"`
	Explicit  bool       `json:"explicit,omitempty"` // redirect_uri was given
	Mode      string     `json:"mode"`
	State     string     `json:"state"`
	Challenge string     `json:"challenge"`
	Scope     string     `json:"scope"` // those that are known, in normal form
	Hint      string     `json:"hint,omitempty"`
	Prompt    string     `json:"prompt,omitempty"`
	MaxAge    *int64     `json:"maxAge,omitempty"` // of the sign-in, in seconds
	Locales   string     `json:"locales,omitempty"`
	Created   time.Time  `json:"created"`
	Expires   time.Time  `json:"expires"`
	Device    string     `json:"device,omitempty"` // hash of the name of the browser that has it
	Decision  *decision  `json:"decision,omitempty"`
}

// decision is what became of a request.
type decision struct {
	DID   syntax.DID `json:"did,omitempty"`   // empty: it was denied, or ended with an error
	Scope string     `json:"scope,omitempty"` // granted
}

// pending bounds how many requests are made.
type pending struct {
	max  int
	mu   sync.Mutex
	ends []time.Time
}

func (p *pending) add(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.ends) && !now.Before(p.ends[n]) {
		n++
	}
	p.ends = slices.Delete(p.ends, 0, n)
	if len(p.ends) >= p.max {
		return &Error{Code: codeUnavailable, Description: "Too many authorization requests are pending", Status: http.StatusServiceUnavailable, Retry: p.ends[0].Sub(now)}
	}
	p.ends = append(p.ends, now.Add(requestLife))
	return nil
}

var (
	challengeForm  = lazy(`^[A-Za-z0-9_-]{43}$`)
	verifierForm   = lazy(`^[A-Za-z0-9._~-]{43,128}$`)
	thumbprintForm = challengeForm
)

// Limits on parameters, in bytes.
const (
	maxState   = 4 << 10
	maxLocales = 256
	maxHint    = 2048
)

// par serves pushed authorization requests (RFC 9126).
func (p *Provider) par(r *http.Request, in params) (any, error) {
	ctx := r.Context()
	for _, name := range []string{"request_uri", "request", "claims", "id_token_hint", "nonce", "authorization_details"} {
		if in[name] != "" {
			return nil, fail(codeInvalidRequest, "The parameter %s is not supported here", name)
		}
	}
	proof, jkt, err := p.proofOf(r, false)
	if err != nil {
		return nil, err
	}
	c, as, err := p.authenticate(ctx, in)
	if err != nil {
		return nil, err
	}
	switch given := in["dpop_jkt"]; {
	case given != "" && !thumbprintForm().MatchString(given):
		return nil, fail(codeInvalidRequest, "dpop_jkt must be a thumbprint")
	case given != "" && proof && given != jkt:
		return nil, &Error{Code: codeInvalidProof, Description: "The DPoP proof is not of the key of dpop_jkt", Status: http.StatusUnauthorized}
	case given != "":
		jkt = given
	case !proof:
		return nil, fail(codeInvalidProof, "There is no DPoP proof, and no dpop_jkt")
	}
	if err := as.notFor(jkt); err != nil {
		return nil, err
	}
	q, err := p.validate(ctx, c, in)
	if err != nil {
		return nil, err
	}
	if err := p.pending.add(p.now()); err != nil {
		return nil, err
	}
	now := p.now()
	q.Version, q.Client, q.Auth, q.JKT = version, c.id, as, jkt
	q.Created, q.Expires = now, now.Add(requestLife)
	id := rand.Text()
	err = p.kv.Write(ctx, func(tx storage.KVTx) error { return putRequest(ctx, tx, id, q) })
	if err != nil {
		return nil, err
	}
	return map[string]any{"request_uri": requestURIPrefix + id, "expires_in": int(requestLife / time.Second)}, nil
}

// notFor checks that a DPoP key goes with an authentication.
func (as clientAuth) notFor(jkt string) error {
	switch {
	case as.Thumbprint != "" && as.Thumbprint == jkt:
		return fail(codeInvalidRequest, "The key of the client must not be its DPoP key as well")
	case as.bound != "" && as.bound != jkt:
		return fail(codeInvalidClient, "client_assertion: it is for another DPoP key")
	}
	return nil
}

// proofOf verifies the proof of a request to an endpoint of this package.
func (p *Provider) proofOf(r *http.Request, required bool) (given bool, jkt string, err error) {
	if !required && len(r.Header.Values("DPoP")) == 0 {
		return false, "", nil
	}
	text, err := dpop.Header(r.Header)
	if err != nil {
		return false, "", err
	}
	proof, err := p.proofs.Verify(r.Context(), text, dpop.Target{Method: r.Method, URL: p.cfg.Issuer + r.URL.EscapedPath()})
	return err == nil, proof.Thumbprint, err
}

// validate checks the parameters of a request.
func (p *Provider) validate(ctx context.Context, c client, in params) (q *request, err error) {
	q = &request{State: in["state"], Challenge: in["code_challenge"], Prompt: in["prompt"], Locales: in["ui_locales"], Mode: in["response_mode"]}
	if q.Redirect, err = c.redirect(in["redirect_uri"]); err != nil {
		return nil, err
	}
	q.Explicit = in["redirect_uri"] != ""
	bad := func(format string, args ...any) (*request, error) {
		return nil, fail(codeInvalidRequest, format, args...)
	}
	switch q.Mode {
	case "":
		q.Mode = modeQuery
	case modeQuery, modeFragment, modeForm:
	default:
		return bad("response_mode must be %s, %s or %s", modeQuery, modeFragment, modeForm)
	}
	switch in["response_type"] {
	case "code":
	case "":
		return bad("response_type is missing")
	default:
		return nil, fail(codeUnsupportedType, "response_type must be code")
	}
	switch {
	case q.Mode == modeForm && !strings.HasPrefix(q.Redirect, "http"):
		return bad("response_mode %s needs a redirect URI with http or https", modeForm)
	case q.State == "":
		return bad("state is missing")
	case len(q.State) > maxState:
		return bad("state is longer than %d bytes", maxState)
	case q.Challenge == "":
		return bad("code_challenge is missing (PKCE)")
	case in["code_challenge_method"] != "S256":
		return bad("code_challenge_method must be S256")
	case !challengeForm().MatchString(q.Challenge):
		return bad("code_challenge must have 43 characters of base64url")
	case q.Prompt != "" && !slices.Contains(prompts, q.Prompt):
		return bad("prompt must be one of %s", strings.Join(prompts, ", "))
	case q.Prompt == promptNone && !c.remembers():
		return bad("prompt none is only for confidential clients")
	case len(q.Locales) > maxLocales:
		return bad("ui_locales is longer than %d bytes", maxLocales)
	}
	if text := in["max_age"]; text != "" {
		age, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return bad("max_age must be a number of seconds")
		}
		q.MaxAge = new(int64(age))
	}
	if q.Hint, err = loginHint(in["login_hint"]); err != nil {
		return nil, err
	}
	q.Scope, err = p.requestedScope(ctx, c, in["scope"])
	return q, err
}

// loginHint is a handle or a DID.
func loginHint(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	id := strings.TrimPrefix(s, "@")
	if !strings.HasPrefix(id, "did:") {
		id = strings.ToLower(id)
	}
	if _, err := syntax.ParseAtIdentifier(id); err != nil || len(id) > maxHint {
		return "", fail(codeInvalidRequest, "login_hint must be a handle or a DID")
	}
	return id, nil
}

// requestedScope checks the scopes that a client asks for. It drops those that are not known.
func (p *Provider) requestedScope(ctx context.Context, c client, text string) (string, error) {
	bad := func(format string, args ...any) (string, error) {
		return "", fail(codeInvalidScope, format, args...)
	}
	if len(text) > maxScopeText {
		return bad("scope is longer than %d bytes", maxScopeText)
	}
	declared, _ := auth.ParseScopes(c.Scope)
	names := strings.Split(c.Scope, " ")
	for s := range strings.SplitSeq(text, " ") {
		switch {
		case s == "":
		case s == "openid":
			return bad("openid is not supported")
		case !slices.Contains(names, s) && !declared.Has(s):
			return bad("the scope %s is not declared in the client metadata", short(s))
		}
	}
	asked, _ := auth.ParseScopes(text)
	if !asked.Has(auth.Atproto) {
		return bad("scope must contain atproto")
	}
	if p.cfg.Sets == nil {
		asked = asked.Select(func(s auth.Scope) bool { _, _, include := s.Include(); return !include })
	} else if _, err := p.expand(ctx, asked); err != nil {
		return "", err
	}
	return asked.String(), nil
}

// expand replaces permission sets by what they grant.
func (p *Provider) expand(ctx context.Context, granted auth.Permissions) (auth.Permissions, error) {
	var failed error
	out := granted.Expand(func(include auth.Scope) []auth.Scope {
		if p.cfg.Sets == nil {
			return nil
		}
		scopes, err := p.cfg.Sets.Expand(ctx, include)
		if err != nil && failed == nil {
			failed = fail(codeInvalidScope, "Cannot resolve %s", include)
			p.log.DebugContext(ctx, "permission set", "scope", include, "err", err)
		}
		return scopes
	})
	return out, failed
}

func putRequest(ctx context.Context, tx storage.KVTx, id string, q *request) error {
	doc, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return tx.Set(ctx, requestPrefix+digest.Hash(id), doc, q.Expires.Add(requestKept))
}

func getRequest(ctx context.Context, r storage.KVReader, id string) (*request, error) {
	doc, err := r.Get(ctx, requestPrefix+digest.Hash(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fail(codeInvalidRequest, "This request is not known. It may be over: please start again from the app")
	} else if err != nil {
		return nil, err
	}
	q := &request{}
	if err := exactjson.UnmarshalPlain(doc, q); err != nil {
		return nil, err
	}
	if q.Version != version {
		return nil, fail(codeInvalidRequest, "This request is not known: please start again from the app")
	}
	return q, nil
}

// change changes a request in a transaction. fn may be called more than once.
func (p *Provider) change(ctx context.Context, id string, fn func(*request) error) (*request, error) {
	return changeRequest(ctx, p.kv, id, fn)
}

func changeRequest(ctx context.Context, kv storage.KV, id string, fn func(*request) error) (q *request, err error) {
	err = kv.Write(ctx, func(tx storage.KVTx) error {
		if q, err = getRequest(ctx, tx, id); err != nil {
			return err
		}
		if err := fn(q); err != nil {
			return err
		}
		return putRequest(ctx, tx, id, q)
	})
	return q, err
}

// extend gives a request to a browser, and more time.
func (q *request) extend(device string, now time.Time) {
	q.Device = digest.Hash(device)
	q.Expires = now.Add(requestLife)
	if most := q.Created.Add(requestMost); q.Expires.After(most) {
		q.Expires = most
	}
}

// Requests extends the pending authorization requests of a store. Pages with several steps keep a
// request alive with it, for example while the user chooses a handle or fetches a phone. It needs
// no Provider, and is safe for concurrent use by several processes.
type Requests struct {
	// KV is the KV of the accounts' store.
	KV storage.KV
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Extend keeps a request (Prompt.Request) alive for five minutes from now, rounded to ten seconds,
// up to an hour in all. Call it when the user loads a page of the request or sends a form, in the
// browser device (Device.ID). A request that has expired, was answered, or belongs to another
// browser is not changed. That is not an error: the user sees it when the request continues.
func (x Requests) Extend(ctx context.Context, device, id string) error {
	now := time.Now
	if x.Now != nil {
		now = x.Now
	}
	at, needed := now(), false
	err := x.KV.Read(ctx, func(r storage.KVReader) error {
		q, err := getRequest(ctx, r, id)
		if err != nil {
			return err
		}
		if err := q.of(device, at); err != nil {
			return err
		}
		was := *q
		q.extend(device, at)
		needed = q.Device != was.Device || q.Expires.Sub(was.Expires) >= extendEvery
		return nil
	})
	if needed {
		_, err = changeRequest(ctx, x.KV, id, func(q *request) error {
			if err := q.of(device, at); err != nil {
				return err
			}
			q.extend(device, at)
			return nil
		})
	}
	var e *Error
	if errors.Is(err, errOver) || errors.As(err, &e) {
		return nil
	}
	return err
}
