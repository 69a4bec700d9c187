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

// Resolver finds DID documents; *identity.Resolver is one.
type Resolver interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
}

// Proxy forwards requests. Resolver, Signer and Auth are required. It is safe for
// concurrent use; its fields must not be changed once it is used.
type Proxy struct {
	// Resolver finds the documents of services.
	Resolver Resolver
	// Signer returns the key of an account.
	Signer func(ctx context.Context, did syntax.DID) (crypto.Signer, error)
	// Auth demands the credentials of an account of the host. The account must have the permission
	// to call the method of the service (auth.Call, with Service.Ref), which is checked here.
	Auth xrpc.Authenticator

	// Known are services with an address that the operator has given. They may be anywhere;
	// those of strangers must be at public addresses and speak HTTPS.
	Known []Service
	// Default returns the service for a method where the client names none. Nil: there is none.
	Default func(method syntax.NSID) (Service, bool)
	// FullAudience makes service tokens name the service as DID and fragment. By
	// default they name the DID alone, which is deprecated, but understood by all.
	FullAudience bool
	// MaxBody is the limit in bytes of a request's body, which is not held in memory. 0: 100 MiB.
	MaxBody int64

	// Request, if not nil, may change the request that goes out.
	Request func(r *xrpc.Request, out *http.Request)
	// Response, if not nil, may change the answer that came, before it is passed on; headers that
	// do not pass have been removed. The caller is empty for a request without a token. It may
	// replace the body, and then has to see to the lengths, and that the old one is closed with it.
	Response func(r *xrpc.Request, caller syntax.DID, res *http.Response)

	// HTTP makes the requests. Nil: a client that reaches public addresses by HTTPS only
	// (any, in plain HTTP too, if Development is set), and another one for Known.
	HTTP        *http.Client
	Development bool
	// HeaderTimeout is how long a service may take to answer; BodyTimeout how long a body may
	// stall. 0: 10 seconds, and 30.
	HeaderTimeout, BodyTimeout time.Duration
	// Now is the clock, for the times in service tokens. Nil: time.Now.
	Now func() time.Time

	once    sync.Once
	clients [2]*http.Client // for services of strangers, and of the operator
}

// Validate returns an error that says what is missing.
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

// Route returns what a Server needs as its Fallback. It panics if the Proxy is not valid: see
// Validate.
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
