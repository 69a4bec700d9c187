package provider

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// authorize serves the page that an app sends people to, and the form of the consent.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	pageHeaders(w.Header())
	var err error
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		err = p.cfg.Limit(r, "authorize", "")
		if err == nil {
			err = p.open(w, r)
		}
	case http.MethodPost:
		err = p.cfg.Limit(r, "authorize", "")
		if err == nil {
			err = p.decide(w, r)
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		err = &Error{Code: codeInvalidRequest, Description: "The method must be GET", Status: http.StatusMethodNotAllowed}
	}
	if err == nil {
		return
	}
	e, isError := asError(err)
	if !isError {
		p.log.ErrorContext(r.Context(), "oauth", "path", r.URL.Path, "err", err)
	}
	e.retryAfter(w.Header())
	p.cfg.Pages.Error(w, r, e.status(), e)
}

// navigated checks that a browser asks for a page as such. Old browsers do not say.
func navigated(r *http.Request) error {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return fail(codeInvalidRequest, "This page can only be navigated to")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		return fail(codeInvalidRequest, "This page cannot be part of another one")
	}
	return nil
}

// open shows what a request needs next, or answers the client. An error is shown to the person: the
// client hears nothing, since nobody knows yet that the request is its own.
func (p *Provider) open(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if err := navigated(r); err != nil {
		return err
	}
	in, err := formParams(r.URL.RawQuery)
	if err != nil {
		return err
	}
	for name := range in {
		if name != "client_id" && name != "request_uri" && name != "account" {
			return fail(codeInvalidRequest, "The parameters of a request must be pushed first (RFC 9126): only client_id and request_uri belong here")
		}
	}
	id, ok := strings.CutPrefix(in["request_uri"], requestURIPrefix)
	if !ok {
		return fail(codeInvalidRequest, "The parameter request_uri is missing or malformed")
	}
	device, err := p.cfg.Logins.Device(w, r)
	if err != nil {
		return err
	}
	// A program that looks at links to show what is behind them must not take the request away from
	// the person's browser.
	person := r.Method == http.MethodGet && r.Header.Get("Sec-Purpose") == "" && (r.Header.Get("Sec-Fetch-Mode") != "" || len(device.Accounts) > 0)
	now := p.now()
	q, err := p.change(ctx, id, func(q *request) error {
		if q.Client != in["client_id"] {
			return fail(codeInvalidRequest, "This request is one of another app")
		}
		if err := q.of(device.ID, now); err != nil {
			return err
		}
		if person {
			q.extend(device.ID, now)
		}
		return nil
	})
	if errors.Is(err, errOver) {
		return p.answer(w, q, &Error{Code: codeAccessDenied, Description: "The request has expired"}, "")
	} else if err != nil {
		return err
	}
	c, err := p.client(ctx, q.Client)
	if err != nil {
		return err
	}
	next, err := p.next(ctx, c, q, id, device, syntax.DID(in["account"]))
	var e *Error
	switch {
	case errors.As(err, &e) && person:
		return p.end(ctx, w, id, device.ID, q, e)
	case e != nil:
		return p.answer(w, q, e, "")
	case err != nil:
		return err
	case next.silent != "":
		return p.allow(w, r, c, id, device.ID, next.login, q.scopes(), nil)
	}
	p.cfg.Pages.Prompt(w, r, next.prompt)
	return nil
}

// errOver says that the time of a request is over.
var errOver = errors.New("provider: the request has expired")

// of checks that a request is still open, and is not one of another browser than the device.
func (q *request) of(device string, now time.Time) error {
	switch {
	case q.Device != "" && q.Device != digest.Hash(device):
		return &Error{Code: codeAccessDenied, Description: "This request was opened in another browser", Status: http.StatusForbidden}
	case q.Decision != nil:
		return fail(codeInvalidRequest, "This request was answered already: please go back to the app")
	case !now.Before(q.Expires):
		return errOver
	}
	return nil
}

func (q *request) scopes() auth.Permissions {
	granted, _ := auth.ParseScopes(q.Scope)
	return granted
}

// login is a sign-in that is good: of an account that may be let in.
type login struct {
	SignedIn
	account account.Account
	fresh   bool // nothing more has to be shown for this request
}

// logins are the sign-ins of a browser that are still good.
func (p *Provider) logins(ctx context.Context, d Device, id string, q *request) (list []login, err error) {
	now := p.now()
	for _, s := range d.Accounts {
		if s.Request != "" && s.Request != id {
			continue
		}
		a, err := p.accounts.ByDID(ctx, s.DID)
		if errors.Is(err, account.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		life := signInLife
		if s.Request != "" {
			life = signInOneTime
		}
		age := now.Sub(s.At) // one from the future was noted by a clock that was ahead
		fresh := s.Credentials == a.Credentials && age < life && age >= -time.Minute && a.Status() != account.TakenDown
		if since, wanted := q.signInSince(); wanted && s.At.Before(since) {
			fresh = false
		}
		list = append(list, login{s, a, fresh})
	}
	return list, nil
}

// signInSince is since when somebody must have signed in, if the client has asked for that: by prompt or
// by max_age, whose time is the request's, so that it does not end while somebody reads (OpenID Connect,
// 3.1.2.1).
func (q *request) signInSince() (since time.Time, wanted bool) {
	switch {
	case q.Prompt == promptLogin:
		return q.Created, true
	case q.MaxAge != nil:
		return q.Created.Add(-time.Duration(*q.MaxAge) * time.Second), true
	}
	return since, false
}

// hinted reports whether an account is the one that a request asks for.
func (q *request) hinted(a account.Account) bool {
	return q.Hint == "" || q.Hint == string(a.DID) || strings.EqualFold(q.Hint, string(a.Handle))
}

// step is what comes next for a request.
type step struct {
	prompt Prompt
	silent syntax.DID // who is let in without a question; empty: nobody
	login  login
}

// next decides what comes next. An *Error ends the request.
func (p *Provider) next(ctx context.Context, c client, q *request, id string, d Device, chosen syntax.DID) (s step, err error) {
	all, err := p.logins(ctx, d, id, q)
	if err != nil {
		return s, err
	}
	var fit []login
	for _, l := range all {
		if q.hinted(l.account) {
			fit = append(fit, l)
		}
	}
	s.prompt = Prompt{
		Client: c.Client, Request: id, Form: p.form(d.ID, id), Action: pathAuthorize,
		Return: pathAuthorize + "?" + url.Values{"client_id": {q.Client}, "request_uri": {requestURIPrefix + id}}.Encode(),
		Scopes: q.scopes().Scopes(), Hint: q.Hint, Locales: q.Locales, Expires: q.Expires,
	}
	for _, l := range fit {
		s.prompt.Accounts = append(s.prompt.Accounts, Choice{l.account, !l.fresh})
	}
	if q.Prompt == promptNone {
		return p.nextSilent(ctx, c, q, fit, s)
	}
	ask := func(what Ask) (step, error) {
		s.prompt.Ask = what
		return s, nil
	}
	consent := func(l login) (step, error) {
		known, _, err := p.granted(ctx, l.account, q.Client)
		if err != nil {
			return s, err
		}
		s.prompt.Account = l.DID
		if c.remembers() {
			s.prompt.Known = known.Scopes()
		}
		return ask(AskConsent)
	}
	i := slices.IndexFunc(fit, func(l login) bool { return l.DID == chosen })
	switch {
	case chosen != "" && i >= 0 && fit[i].fresh:
		return consent(fit[i])
	case chosen != "" && i >= 0:
		s.prompt.Account = chosen
		return ask(AskSignIn)
	case q.Prompt == promptCreate:
		return ask(AskSignUp)
	case q.Prompt == promptSelect && len(fit) == 0:
		return s, fail(codeSelectAccount, "Nobody is signed in")
	case len(fit) == 0:
		return ask(AskSignIn)
	case q.Prompt == promptSelect || len(fit) > 1:
		return ask(AskAccount)
	case !fit[0].fresh:
		s.prompt.Account = fit[0].DID
		return ask(AskSignIn)
	case q.Prompt == "" && q.Hint != "":
		if ok, err := p.covered(ctx, c, q, fit[0].account); err != nil || ok {
			s.silent, s.login = fit[0].DID, fit[0]
			return s, err
		}
	}
	return consent(fit[0])
}

// nextSilent is next for prompt none.
func (p *Provider) nextSilent(ctx context.Context, c client, q *request, fit []login, s step) (step, error) {
	if q.Hint == "" || len(fit) == 0 {
		return s, fail(codeLoginRequired, "Nobody is signed in whom login_hint names")
	}
	if !fit[0].fresh { // there is no other that fits: a hint names one account
		return s, fail(codeLoginRequired, "The sign-in is too old")
	}
	ok, err := p.covered(ctx, c, q, fit[0].account)
	switch {
	case err != nil:
		return s, err
	case !ok:
		return s, fail(codeConsentRequired, "The account has not granted all that is asked for")
	}
	s.silent, s.login = fit[0].DID, fit[0]
	return s, nil
}

// covered reports whether an account has granted all that a request asks for, to a client that
// nobody else can pretend to be.
func (p *Provider) covered(ctx context.Context, c client, q *request, a account.Account) (bool, error) {
	if !c.remembers() || a.Status() != account.Active {
		return false, nil
	}
	known, ok, err := p.granted(ctx, a, q.Client)
	if err != nil || !ok {
		return false, err
	}
	for _, s := range q.scopes().Scopes() {
		if !known.Has(s.String()) {
			return false, nil
		}
	}
	return true, nil
}

// decide serves the form of the consent.
func (p *Provider) decide(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if err := p.sameOrigin(r); err != nil {
		return err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return &Error{Code: codeInvalidRequest, Description: "The body must be application/x-www-form-urlencoded", Status: http.StatusUnsupportedMediaType}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fail(codeInvalidRequest, "The form is malformed")
	}
	for _, name := range []string{"request", "form", "decision", "did"} {
		if len(form[name]) > 1 {
			return fail(codeInvalidRequest, "The form has a field twice")
		}
	}
	device, err := p.cfg.Logins.Device(w, r)
	if err != nil {
		return err
	}
	id := form.Get("request")
	if !p.checkForm(form.Get("form"), device.ID, id) {
		return fail(codeInvalidRequest, "The form is not one of this browser: please start again from the app")
	}
	q, err := p.read(ctx, id)
	if err != nil {
		return err
	}
	if q.Device != "" && q.Device != digest.Hash(device.ID) {
		return &Error{Code: codeAccessDenied, Description: "This request was opened in another browser", Status: http.StatusForbidden}
	}
	if q.Decision == nil && !p.now().Before(q.Expires) {
		return p.answer(w, q, &Error{Code: codeAccessDenied, Description: "The request has expired"}, "")
	}
	switch form.Get("decision") {
	case "deny":
		return p.end(ctx, w, id, device.ID, q, fail(codeAccessDenied, "The request was denied"))
	case "allow":
	default:
		return fail(codeInvalidRequest, "The form has no decision")
	}
	c, err := p.client(ctx, q.Client)
	if err != nil {
		return err
	}
	all, err := p.logins(ctx, device, id, q)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(l login) bool { return l.DID == syntax.DID(form.Get("did")) })
	switch {
	case i < 0 || !all[i].fresh:
		return &Error{Code: codeLoginRequired, Description: "The account is not signed in in this browser, or not any more", Status: http.StatusUnauthorized}
	case !q.hinted(all[i].account):
		return &Error{Code: codeAccessDenied, Description: "The app has asked for another account", Status: http.StatusForbidden}
	}
	ticked, _ := auth.ParseScopes(strings.Join(form["scope"], " "))
	granted := q.scopes().Select(func(s auth.Scope) bool { return ticked.Has(s.String()) })
	if !granted.Has(auth.Atproto) {
		return p.end(ctx, w, id, device.ID, q, fail(codeAccessDenied, "The scope atproto was not granted"))
	}
	return p.allow(w, r, c, id, device.ID, all[i], granted, p.cfg.Allowed)
}

// sameOrigin checks that a form was sent by a page of this server.
func (p *Provider) sameOrigin(r *http.Request) error {
	if r.Header.Get("Origin") != p.cfg.Issuer {
		return fail(codeInvalidRequest, "The form does not come from a page of this server")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return fail(codeInvalidRequest, "The form does not come from a page of this server")
	}
	return navigated(r)
}

// settle notes what becomes of a request in a browser. The same decision once more is no error.
func (p *Provider) settle(ctx context.Context, id, device string, d decision) (*request, error) {
	return p.change(ctx, id, func(q *request) error {
		if name := digest.Hash(device); q.Device == "" {
			q.Device = name
		} else if q.Device != name {
			return &Error{Code: codeAccessDenied, Description: "This request was opened in another browser", Status: http.StatusForbidden}
		}
		if q.Decision != nil && *q.Decision != d {
			return fail(codeInvalidRequest, "This request was answered already: please go back to the app")
		}
		q.Decision = &d
		return nil
	})
}

// end ends a request with an error, which the client is told.
func (p *Provider) end(ctx context.Context, w http.ResponseWriter, id, device string, q *request, e *Error) error {
	if _, err := p.settle(ctx, id, device, decision{}); err != nil {
		return err
	}
	return p.answer(w, q, e, "")
}

// allow lets the client in: it stores a code, and answers with it.
//
// The request is settled first, and then the code stored with the account. Both can be repeated:
// the code follows from the request. So a form that is sent twice, or again after a crash, gives
// the same code.
func (p *Provider) allow(w http.ResponseWriter, r *http.Request, c client, id, device string, l login, granted auth.Permissions,
	notify func(*http.Request, account.Account, Allowance)) error {
	ctx := r.Context()
	q, err := p.settle(ctx, id, device, decision{DID: l.DID, Scope: granted.String()})
	if err != nil {
		return err
	}
	code, news, err := p.storeCode(ctx, c, id, q, l, granted)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Code == codeAccessDenied:
		return p.answer(w, q, e, "")
	case err != nil:
		return err
	}
	if notify != nil && len(news) > 0 {
		notify(r, l.account, Allowance{Client: c.Client, Granted: granted, New: news, At: p.now()})
	}
	return p.answer(w, q, nil, code)
}
