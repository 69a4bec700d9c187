package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Prefixes of codes and refresh tokens.
const (
	codeText    = "cod-"
	refreshText = "ref-"
)

// codeRecord is a code as it is stored, by the hash of its secret.
type codeRecord struct {
	Version     int        `json:"v"`
	Client      string     `json:"client"`
	Auth        clientAuth `json:"auth"`
	JKT         string     `json:"jkt"`
	Redirect    string     `json:"redirect"`
	Explicit    bool       `json:"explicit,omitempty"`
	Challenge   string     `json:"challenge"`
	Scope       string     `json:"scope"`
	Credentials int64      `json:"credentials"`
	Expires     time.Time  `json:"expires"`
	// Used is set when the code was presented. Session is the session that it was exchanged for;
	// empty: none.
	Used    bool   `json:"used,omitempty"`
	Session string `json:"session,omitempty"`
}

// storeCode stores a code with an account, and what was granted. For one request there is one code.
// news is what the app had not been granted before; nil if it was all granted, or the code was
// there.
func (p *Provider) storeCode(ctx context.Context, c client, id string, q *request, l login, granted auth.Permissions) (text string, news []auth.Scope, err error) {
	secret := digest.MAC(p.secrets.code, id, string(l.DID))
	key := codePrefix + digest.Hash(secret)
	now := p.now()
	denied := func(why string) error { return fail(codeAccessDenied, "%s", why) }
	who := l.Caller
	if who.DID != l.DID {
		who = account.Trusted(l.DID)
	}
	_, err = p.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		news = nil
		switch {
		case a.Credentials != l.Credentials:
			return denied("The sign-in has ended")
		case a.Status() != account.Active:
			return denied("The account is not active")
		}
		doc, err := step.Get(ctx, key)
		switch {
		case err == nil:
			var x codeRecord
			if err := exactjson.UnmarshalPlain(doc, &x); err != nil {
				return err
			}
			if x.Used {
				return fail(codeInvalidRequest, "This request was answered already: please go back to the app")
			}
			return nil
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		x := codeRecord{
			Version: version, Client: q.Client, Auth: q.Auth, JKT: q.JKT, Redirect: q.Redirect, Explicit: q.Explicit, Challenge: q.Challenge,
			Scope: granted.String(), Credentials: a.Credentials, Expires: now.Add(codeLife),
		}
		if doc, err = json.Marshal(x); err != nil {
			return err
		}
		step.Expect(key, nil)
		step.Set(key, doc, x.Expires)
		if c.Loopback { // nobody knows which program it is, so all is new each time
			news = granted.Scopes()
			return nil
		}
		news, err = remember(ctx, step, *a, c, q.scopes(), granted, now)
		return err
	})
	switch {
	case errors.Is(err, account.ErrNotFound):
		err = denied("The account is gone")
	case errors.Is(err, account.ErrTokenRevoked), errors.Is(err, account.ErrTakenDown):
		err = denied("The sign-in has ended")
	}
	return secretText{l.DID, "c", secret}.String(codeText), news, err
}

// endCodes adds to a step that codes of an app are void. They stay as used ones, so that no form
// that is sent once more brings them back.
func endCodes(ctx context.Context, step *repo.Step, clientID string) error {
	for pair, err := range step.Keys(ctx, storage.Prefix(codePrefix)) {
		if err != nil {
			return err
		}
		var x codeRecord
		if err := exactjson.UnmarshalPlain(pair.Value, &x); err != nil {
			return err
		}
		if x.Client != clientID || x.Used {
			continue
		}
		x.Used = true
		doc, err := json.Marshal(x)
		if err != nil {
			return err
		}
		step.Set(pair.Key, doc, x.Expires)
	}
	return nil
}

// token serves the token endpoint.
func (p *Provider) token(r *http.Request, in params) (any, error) {
	ctx := r.Context()
	kind, err := in.required("grant_type")
	if err != nil {
		return nil, err
	}
	if kind != grantCode && kind != grantRefresh {
		return nil, fail(codeUnsupportedGrant, "grant_type must be %s or %s", grantCode, grantRefresh)
	}
	_, jkt, err := p.proofOf(r, true)
	if err != nil {
		return nil, err
	}
	c, as, err := p.authenticate(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := as.notFor(jkt); err != nil {
		return nil, err
	}
	if !slices.Contains(c.GrantTypes, kind) {
		return nil, fail(codeUnauthorized, "The client metadata does not declare the grant type %s", kind)
	}
	if kind == grantCode {
		return p.exchange(ctx, c, as, jkt, in)
	}
	return p.refresh(ctx, c, as, jkt, in)
}

// answer is what a client gets for a grant.
type tokenAnswer struct {
	Access  string     `json:"access_token"`
	Type    string     `json:"token_type"`
	Expires int64      `json:"expires_in"`
	Refresh string     `json:"refresh_token,omitempty"`
	Scope   string     `json:"scope"`
	Subject syntax.DID `json:"sub"`
}

// answerFor makes the tokens of a session, as it is.
func (p *Provider) answerFor(did syntax.DID, name, secret string, x *session) (*tokenAnswer, error) {
	access, err := p.signAccess(accessClaims{
		Issuer: p.cfg.Issuer, Audience: string(p.cfg.ServiceDID), Subject: did, Client: x.Client, Session: name, ID: x.Token.ID,
		Credentials: x.Credentials, Issued: x.Token.Issued, Expires: x.Token.Expires, Confirm: confirm{x.JKT},
	})
	out := &tokenAnswer{
		Access: access, Type: "DPoP", Expires: max(x.Token.Expires-p.now().Unix(), 0), Scope: x.Expanded, Subject: did,
	}
	if x.Refresh != "" {
		out.Refresh = secretText{did, name, secret}.String(refreshText)
	}
	return out, err
}

// newToken gives a session a new access token.
func (x *session) newToken(now time.Time) {
	x.Token = accessToken{ID: rand.Text(), Issued: now.Unix(), Expires: min(now.Add(accessLife).Unix(), x.Expires.Unix())}
}

// verdict is an error that a step is made for all the same: what it writes is part of it.
type verdict struct{ err *Error }

// update changes an account's OAuth state. fn returns a *verdict for an error that is to be
// answered after the step has been made.
func (p *Provider) update(ctx context.Context, did syntax.DID, fn func(*account.Account, *repo.Step) (*verdict, error)) error {
	var v *verdict
	_, err := p.accounts.Update(ctx, account.Trusted(did), func(a *account.Account, step *repo.Step) (err error) {
		v, err = fn(a, step)
		return err
	})
	switch {
	case errors.Is(err, account.ErrNotFound):
		return fail(codeInvalidGrant, "The account is gone")
	case err != nil:
		return err
	case v != nil:
		return v.err
	}
	return nil
}

// exchange exchanges a code for the tokens of a new session (RFC 6749, 4.1.3). The code is used up
// and the session begins in one step. A code that is shown a second time ends the session that it
// has begun; so does one for nothing, after an attempt that was wrong.
func (p *Provider) exchange(ctx context.Context, c client, as clientAuth, jkt string, in params) (any, error) {
	text, err := in.required("code")
	if err != nil {
		return nil, err
	}
	verifier, err := in.required("code_verifier")
	if err != nil {
		return nil, err
	}
	if !verifierForm().MatchString(verifier) {
		return nil, fail(codeInvalidRequest, "code_verifier must have 43 to 128 unreserved characters")
	}
	code, ok := parseSecret(codeText, text)
	if !ok {
		return nil, fail(codeInvalidGrant, "The code is not known")
	}
	key := codePrefix + digest.Hash(code.secret)
	challenge := digest.Hash(verifier) // PKCE S256 is the same function
	name, secret := rand.Text(), rand.Text()+rand.Text()
	now := p.now()
	sets, err := p.lookUp(ctx, code.did, key)
	if err != nil {
		return nil, err
	}
	var x *session
	err = p.update(ctx, code.did, func(a *account.Account, step *repo.Step) (*verdict, error) {
		doc, err := step.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, fail(codeInvalidGrant, "The code is not known, or has expired")
		} else if err != nil {
			return nil, err
		}
		step.Expect(key, doc)
		var q codeRecord
		if err := exactjson.UnmarshalPlain(doc, &q); err != nil {
			return nil, err
		}
		if q.Used {
			if q.Session != "" && q.Client == c.id {
				step.Remove(sessionPrefix + q.Session)
			}
			return &verdict{fail(codeInvalidGrant, "The code was used before")}, nil
		}
		use := func(session string) error {
			q.Used, q.Session = true, session
			doc, err := json.Marshal(q)
			// It is kept for as long as the code could have been used, and some more.
			step.Set(key, doc, now.Add(2*codeLife))
			return err
		}
		wrong := func(format string, args ...any) (*verdict, error) {
			return &verdict{fail(codeInvalidGrant, format, args...)}, use("")
		}
		used := challengePrefix + digest.Hash(challenge)
		_, err = step.Get(ctx, used)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		switch known := err == nil; {
		case q.Version != version || !now.Before(q.Expires):
			return wrong("The code has expired")
		case q.Client != c.id:
			return wrong("The code was given to another client")
		case q.Auth.Method != as.Method || q.Auth.KeyID != as.KeyID || q.Auth.Thumbprint != as.Thumbprint:
			return wrong("The client was authenticated in another way when it asked for the code")
		case q.JKT != jkt:
			return wrong("The code is bound to another DPoP key")
		case in["redirect_uri"] != q.Redirect && (q.Explicit || in["redirect_uri"] != ""):
			return wrong("redirect_uri is not that of the request")
		case q.Challenge != challenge:
			return wrong("code_verifier does not fit code_challenge")
		case known:
			return wrong("The code challenge was used before")
		case q.Credentials != a.Credentials || a.Status() != account.Active:
			return wrong("The account does not let the app in any more")
		}
		if sets.scope != q.Scope {
			return nil, storage.ErrConflict
		} else if sets.err != nil {
			return nil, sets.err
		}
		idle, total := c.lifetimes()
		x = &session{
			Version: version, Client: c.id, Auth: as, JKT: jkt, Scope: q.Scope, Expanded: sets.expanded, Credentials: a.Credentials,
			Created: now, Renewed: now, Idle: now.Add(idle), Expires: now.Add(total),
		}
		if slices.Contains(c.GrantTypes, grantRefresh) {
			x.Refresh = digest.Hash(secret)
		}
		x.newToken(now)
		if err := p.makeRoom(ctx, step); err != nil {
			return nil, err
		}
		step.Expect(used, nil)
		step.Set(used, []byte("1"), now.Add(challengeKept))
		if err := use(name); err != nil {
			return nil, err
		}
		return nil, x.write(step, name)
	})
	if err != nil {
		return nil, err
	}
	return p.answerFor(code.did, name, secret, x)
}

// expansion is a scope with its permission sets replaced.
type expansion struct {
	scope, expanded string
	err             error // a set could not be resolved
}

// setTimeout bounds how long a client waits for permission sets.
const setTimeout = 5 * time.Second

// lookUp resolves the permission sets of what is stored at a key of an account: before the step
// that needs them, since nothing is to wait for the network there.
func (p *Provider) lookUp(ctx context.Context, did syntax.DID, key string) (out expansion, err error) {
	err = p.accounts.View(ctx, account.Trusted(did), func(_ account.Account, r storage.KVReader) error {
		doc, err := r.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			return nil // the step says so
		} else if err != nil {
			return err
		}
		var stored struct {
			Scope string `json:"scope"`
		}
		err = exactjson.UnmarshalPlain(doc, &stored)
		out.scope = stored.Scope
		return err
	})
	if errors.Is(err, account.ErrNotFound) {
		return out, nil
	} else if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, setTimeout)
	defer cancel()
	granted, _ := auth.ParseScopes(out.scope)
	expanded, failed := p.expand(ctx, granted)
	out.expanded, out.err = expanded.String(), failed
	return out, nil
}

// refresh exchanges a refresh token for its successor. It is good once, and for a minute more gives
// what it gave: a client may ask twice at the same time, or again if it did not get the answer.
// Both need the client's key. A token that is shown later than that is in the hands of two who have
// the key, so the session ends.
//
// The successor follows from the token and a salt by a MAC, so that it need not be stored.
func (p *Provider) refresh(ctx context.Context, c client, as clientAuth, jkt string, in params) (any, error) {
	text, err := in.required("refresh_token")
	if err != nil {
		return nil, err
	}
	token, ok := parseSecret(refreshText, text)
	if !ok {
		return nil, fail(codeInvalidGrant, "The refresh token is not known")
	}
	if in["scope"] != "" {
		return nil, fail(codeInvalidScope, "scope cannot be changed by a refresh")
	}
	key := sessionPrefix + token.name
	salt := rand.Text()
	now := p.now()
	sets, err := p.lookUp(ctx, token.did, key)
	if err != nil {
		return nil, err
	}
	var x *session
	var secret string
	err = p.update(ctx, token.did, func(a *account.Account, step *repo.Step) (*verdict, error) {
		known, doc, err := p.session(ctx, step, token.name)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, fail(codeInvalidGrant, "The session has ended")
		} else if err != nil {
			return nil, err
		}
		copied := *known
		x = &copied
		// Whoever does not have the client's keys learns nothing and changes nothing.
		switch {
		case x.Client != c.id:
			return nil, fail(codeInvalidGrant, "The refresh token was given to another client")
		case !x.Auth.allows(as):
			return nil, fail(codeInvalidGrant, "The client was authenticated in another way when the session began")
		case x.JKT != jkt:
			return nil, fail(codeInvalidGrant, "The refresh token is bound to another DPoP key")
		}
		step.Expect(key, doc)
		end := func(why string) (*verdict, error) {
			step.Remove(key)
			return &verdict{fail(codeInvalidGrant, "%s", why)}, nil
		}
		switch {
		case x.Credentials != a.Credentials || a.Status() != account.Active:
			return end("The account has ended the session")
		case x.Refresh == "" || !now.Before(x.ends()):
			return end("The session has expired")
		}
		own := digest.Hash(token.secret)
		if own == x.Refresh {
			secret = p.successor(token.name, token.secret, salt)
			return nil, x.renew(c, as, sets, step, token.name, own, salt, secret, now)
		}
		if secret, ok = p.follow(x, token, own, now); !ok {
			return end("The refresh token was used before, so the session has ended")
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	return p.answerFor(token.did, token.name, secret, x)
}

// allows reports whether a session that began with an authentication goes on with another one. A
// client may begin to authenticate itself, and not cease to.
func (as clientAuth) allows(now clientAuth) bool {
	if as.Method == authNone {
		return true
	}
	return as.Method == now.Method && as.KeyID == now.KeyID && as.Thumbprint == now.Thumbprint
}

func (p *Provider) successor(name, secret, salt string) string {
	return digest.MAC(p.secrets.refresh, name, secret, salt)
}

// follow returns the secret that has come of one that was used, if it is still in its grace.
func (p *Provider) follow(x *session, token secretText, own string, now time.Time) (secret string, ok bool) {
	i := slices.IndexFunc(x.Used, func(u usedToken) bool { return u.Hash == own && now.Before(u.Until) })
	if i < 0 {
		return "", false
	}
	secret = token.secret
	for _, u := range x.Used[i:] {
		secret = p.successor(token.name, secret, u.Salt)
	}
	return secret, digest.Hash(secret) == x.Refresh // not so if Config.Secret is another one
}

// renew gives a session new tokens, and adds it to a step.
func (x *session) renew(c client, as clientAuth, sets expansion, step *repo.Step, name, own, salt, secret string, now time.Time) error {
	if sets.err == nil && sets.scope == x.Scope {
		x.Expanded = sets.expanded
	} // else what the sets were stays
	until := now.Add(grace)
	x.Used = slices.DeleteFunc(slices.Clone(x.Used), func(u usedToken) bool { return !now.Before(u.Until) })
	x.Used = append(x.Used, usedToken{own, salt, until})
	x.Used = x.Used[max(0, len(x.Used)-maxUsed):]
	x.Old = slices.DeleteFunc(slices.Clone(x.Old), func(t accessToken) bool { return now.Unix() >= t.Expires })
	x.Old = append(x.Old, accessToken{x.Token.ID, x.Token.Issued, min(until.Unix(), x.Token.Expires)})
	x.Old = x.Old[max(0, len(x.Old)-maxUsed):]
	idle, _ := c.lifetimes()
	x.Auth, x.Refresh, x.Renewed, x.Idle = as, digest.Hash(secret), now, now.Add(idle)
	x.newToken(now)
	return x.write(step, name)
}

// revoke serves the revocation endpoint (RFC 7009): both tokens of a session end by either.
func (p *Provider) revoke(r *http.Request, in params) (any, error) {
	ctx := r.Context()
	done := struct{}{}
	text, err := in.required("token")
	if err != nil {
		return nil, err
	}
	proof, jkt, err := p.proofOf(r, false)
	if err != nil {
		return nil, err
	}
	c, as, err := p.authenticate(ctx, in)
	if err != nil {
		return nil, err
	}
	if !proof && as.Method == authNone {
		return nil, &Error{Code: codeInvalidProof, Description: "A public client needs a DPoP proof", Status: http.StatusUnauthorized}
	}
	did, name := p.sessionOf(text)
	if name == "" {
		return done, nil
	}
	err = p.update(ctx, did, func(_ *account.Account, step *repo.Step) (*verdict, error) {
		x, doc, err := p.session(ctx, step, name)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		switch {
		case x.Client != c.id:
			return nil, nil // the client is told nothing of it
		case proof && x.JKT != jkt:
			return nil, &Error{Code: codeInvalidProof, Description: "The token is bound to another DPoP key", Status: http.StatusUnauthorized}
		case !x.Auth.allows(as):
			return nil, fail(codeInvalidClient, "The client was authenticated in another way when the session began")
		}
		step.Expect(sessionPrefix+name, doc)
		step.Remove(sessionPrefix + name)
		return nil, nil
	})
	var e *Error
	if errors.As(err, &e) && e.Code == codeInvalidGrant { // the account is gone, and all with it
		err = nil
	}
	return done, err
}

// sessionOf returns the session of an access or refresh token, whether or not it is still good.
func (p *Provider) sessionOf(text string) (did syntax.DID, name string) {
	if strings.HasPrefix(text, refreshText) {
		t, _ := parseSecret(refreshText, text)
		return t.did, t.name
	}
	c, _ := p.parseAccess(text)
	return c.Subject, c.Session
}
