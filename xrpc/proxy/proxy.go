package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Resolver finds DID documents; *identity.Resolver implements it.
type Resolver interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
}

// Proxy forwards requests. Resolver, Signer and Auth are required. It is safe for concurrent use.
// Do not change its fields after the first use.
type Proxy struct {
	// Resolver finds the documents of services.
	Resolver Resolver
	// Signer returns the signing key of an account.
	Signer func(ctx context.Context, did syntax.DID) (crypto.Signer, error)
	// Auth demands the credentials of an account of the host. The proxy checks that the account has
	// the permission to call the method of the service (auth.Call, with Service.Ref).
	Auth xrpc.Authenticator

	// Known are services whose URLs the operator has configured. They may be at any address. Other
	// services must be at public addresses and use HTTPS.
	Known []Service
	// Default returns the service for a method if the client names none. Nil: there is none.
	Default func(method syntax.NSID) (Service, bool)
	// FullAudience makes service tokens name the service as DID and fragment. By default they have
	// only the DID, which is deprecated, but which all services accept.
	FullAudience bool
	// MaxBody bounds the bytes of a request's body, which is not held in memory. 0: 100 MiB.
	MaxBody int64

	// Request, if not nil, may change the outgoing request.
	Request func(r *xrpc.Request, out *http.Request)
	// Response, if not nil, may change the response before it is passed on; headers that do not
	// pass have been removed. caller is empty for a request without a token. If it replaces the
	// body, it must set the lengths, and closing the new body must close the old one.
	Response func(r *xrpc.Request, caller syntax.DID, res *http.Response)

	// HTTP makes the requests. Nil: a client that connects only to public addresses by HTTPS (with
	// Development to any address, also by plain HTTP), and another one for Known.
	HTTP        *http.Client
	Development bool
	// HeaderTimeout is how long a service may take to respond, and BodyTimeout how long a body may
	// stall. 0: 10 seconds, and 30. A service that is not Known has these times in all, plus a
	// second for each KiB, so it cannot keep a request by sending a byte now and then.
	HeaderTimeout, BodyTimeout time.Duration
	// Now is the clock, for the times in service tokens. Nil: time.Now.
	Now func() time.Time

	once    sync.Once
	clients [2]*http.Client // for services of strangers, and of the operator
}

// Validate returns an error that names what is missing.
func (p *Proxy) Validate() error {
	switch {
	case p.Resolver == nil:
		return errors.New("proxy: Proxy.Resolver is missing")
	case p.Signer == nil:
		return errors.New("proxy: Proxy.Signer is missing")
	case p.Auth == nil:
		return errors.New("proxy: Proxy.Auth is missing")
	}
	return nil
}

// Route returns the Fallback of a Server. It panics if the Proxy is not valid: see Validate.
func (p *Proxy) Route() *xrpc.Route {
	if err := p.Validate(); err != nil {
		panic(err)
	}
	limit := p.MaxBody
	if limit == 0 {
		limit = 100 << 20
	}
	return &xrpc.Route{
		Auth:    p.authenticate,
		Needs:   []auth.Permission{auth.Call(auth.FromInput, auth.FromInput)},
		Handler: xrpc.Any(p.serve),
		MaxBody: limit,
	}
}

// authenticate refuses what is not for forwarding before it asks who calls.
func (p *Proxy) authenticate(r *xrpc.Request) (auth.Principal, error) {
	if Protected(r.NSID) {
		return auth.Principal{}, &xrpc.Error{Status: http.StatusBadRequest, Name: "InvalidToken", Message: "Bad token method"}
	}
	if _, err := p.Target(r); err != nil {
		return auth.Principal{}, err
	}
	caller, err := p.Auth(r)
	if err == nil && !caller.IsUser(caller.DID) {
		err = errors.New("proxy: Proxy.Auth has returned a Principal that is no account of this host")
	}
	return caller, err
}

func (p *Proxy) serve(w http.ResponseWriter, r *xrpc.Request) error {
	to, err := p.Target(r)
	if err != nil {
		return err
	}
	if err := r.Demand(auth.Call(string(r.NSID), to.Ref())); err != nil {
		return err
	}
	return p.Forward(w, r, Call{To: to, As: r.Principal.DID})
}

// guarded is the client for services that strangers have named.
func (p *Proxy) guarded() *http.Client {
	p.init()
	return p.clients[0]
}

// trusted is the client for services that the operator has named.
func (p *Proxy) trusted() *http.Client {
	p.init()
	return p.clients[1]
}

func (p *Proxy) init() {
	p.once.Do(func() {
		for i, free := range []bool{p.Development, true} {
			c := p.HTTP
			if c == nil {
				c = safehttp.NewClient(safehttp.Config{AllowPrivate: free, AllowHTTP: free, MaxBody: -1})
			}
			own := *c
			own.Timeout = 0 // of our own making
			own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			p.clients[i] = &own
		}
	})
}
