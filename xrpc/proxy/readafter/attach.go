package readafter

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// Attach makes a proxy edit the responses to [Methods]. It sets the proxy's Request and Response,
// and calls the previous ones. It panics if Repos or Handle is missing.
func (m *Merger) Attach(p *proxy.Proxy) {
	switch {
	case m.Repos == nil:
		panic("readafter: Merger.Repos is missing: give the repo.Host of the accounts' repositories")
	case m.Handle == nil:
		panic("readafter: Merger.Handle is missing: a function that returns the handle of an account")
	}
	edited := Methods()
	request, response := p.Request, p.Response
	p.Request = func(r *xrpc.Request, out *http.Request) {
		if slices.Contains(edited, string(r.NSID)) {
			out.Header.Set("Accept-Encoding", Accept(r.Header.Get("Accept-Encoding")))
		}
		if request != nil {
			request(r, out)
		}
	}
	p.Response = func(r *xrpc.Request, caller syntax.DID, res *http.Response) {
		if caller != "" && slices.Contains(edited, string(r.NSID)) {
			m.Modify(r.Request, string(r.NSID), caller, res)
		}
		if response != nil {
			response(r, caller, res)
		}
	}
}

// Queries is an AppView that is called with tokens of the accounts (package serviceauth). Service,
// with its URL, and Signer are required. It is safe for concurrent use.
type Queries struct {
	Service proxy.Service
	// Signer returns the signing key of an account.
	Signer func(ctx context.Context, did syntax.DID) (crypto.Signer, error)
	// HTTP makes the requests. Nil: a client that may connect to any address, since the operator
	// has configured the service.
	HTTP *http.Client
	// Now is the clock, for the times in tokens. Nil: time.Now.
	Now func() time.Time

	once   sync.Once
	client *http.Client // HTTP, or what stands for nil
}

// Query implements [AppView]. It does not retry.
func (q *Queries) Query(ctx context.Context, did syntax.DID, method string, params url.Values, out any) error {
	switch {
	case q.Signer == nil:
		panic("readafter: Queries.Signer is missing: a function that returns the key of an account")
	case q.Service.URL == "":
		panic("readafter: Queries.Service has no URL: give the address of the AppView")
	}
	signer, err := q.Signer(ctx, did)
	if err != nil {
		return err
	}
	t := serviceauth.Token{Issuer: string(did), Audience: string(q.Service.DID), Method: method}
	if q.Now != nil {
		t.Issued = q.Now()
	}
	token, err := serviceauth.Sign(ctx, signer, t)
	if err != nil {
		return err
	}
	q.once.Do(func() {
		if q.client = q.HTTP; q.client == nil {
			q.client = safehttp.NewClient(safehttp.Config{AllowPrivate: true, AllowHTTP: true})
		}
	})
	c := &xrpc.Client{Host: q.Service.URL, HTTP: q.client, Authorize: xrpc.Bearer(token), Retries: -1}
	return c.Query(ctx, method, params, out)
}
