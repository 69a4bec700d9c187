package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/loadcache"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Discovery finds the authorization server of an account: from the handle or DID to the DID
// document, to the PDS, to its metadata, to the metadata of the authorization server. It checks
// that both sides of each step name each other. The zero value is ready to use. It is safe for
// concurrent use. Do not change its fields after the first use.
//
// Specification: OAuth, Identity Authentication and Server Metadata.
type Discovery struct {
	// Resolver resolves handles and DIDs. Nil: one that caches results for 5 minutes, or an hour if
	// they cannot be refreshed. Logins bypass its cache.
	Resolver *identity.Resolver
	// HTTP makes requests to untrusted URLs. Nil: a client of package safehttp. Any other should be
	// as careful. Redirects are not followed.
	HTTP *http.Client
	// Development allows servers on this machine by plain HTTP, and what
	// identity.Resolver.Development allows.
	Development bool
	// Now is the clock; default time.Now.
	Now func() time.Time

	once      sync.Once
	now       func() time.Time
	resolver  *identity.Resolver
	http      *http.Client // follows no redirects
	resources *loadcache.Cache[string, string]
	servers   *loadcache.Cache[string, *Server]
}

// Found is a result of Discovery.
type Found struct {
	// DID is the account, and Handle its handle if it is valid. Both are empty if the input named a
	// server.
	DID    syntax.DID
	Handle syntax.Handle
	// PDS is the origin of the server that hosts the account. It is empty if the input named an
	// authorization server that is not a PDS.
	PDS string
	// Server is the authorization server.
	Server *Server
}

// metadataLife is how long servers' metadata are believed.
const metadataLife = time.Minute

func (d *Discovery) init() {
	if d.now = d.Now; d.now == nil {
		d.now = time.Now
	}
	d.resolver = d.Resolver
	if d.resolver == nil {
		d.resolver = &identity.Resolver{Development: d.Development, TTL: 5 * time.Minute, StaleFor: 55 * time.Minute, Now: d.now}
	}
	c := d.HTTP
	if c == nil {
		c = safehttp.NewClient(safehttp.Config{
			AllowPrivate: d.Development, AllowHTTP: d.Development, MaxBody: 2 * maxDocument, MaxRedirects: -1, Timeout: postTimeout,
		})
	}
	d.http = withoutRedirects(c)
	d.resources = loadcache.New(cacheConfig[string](d.now))
	d.servers = loadcache.New(cacheConfig[*Server](d.now))
}

func cacheConfig[V any](now func() time.Time) loadcache.Config[string, V] {
	return loadcache.Config[string, V]{
		TTL: metadataLife, Stale: -1, Negative: 2 * time.Second, Timeout: fetchTimeout, Max: 1000, Now: now,
		GaveUp: func(_ string, err error) error { return fmt.Errorf("%w: %w", ErrTemporary, err) },
	}
}

// Find finds the authorization server for a user's input: a handle (with or without "@"), a DID, or
// the https:// URL of a PDS or an authorization server. Errors are ErrInput, ErrTemporary,
// ErrServer, ErrMismatch, and those of package identity.
func (d *Discovery) Find(ctx context.Context, input string) (*Found, error) {
	d.once.Do(d.init)
	input = clean(input)
	if strings.HasPrefix(input, "https://") || strings.HasPrefix(input, "http://") {
		return d.findServer(ctx, input)
	}
	id, err := syntax.ParseAtIdentifier(input)
	if err != nil {
		return nil, fmt.Errorf("%w: %.100q", ErrInput, input)
	}
	return d.Account(ctx, id)
}

// clean removes what people copy along with a handle.
func clean(input string) string {
	input = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Cc) {
			return -1
		}
		return r
	}, input)
	input = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(input), "at://"), "@")
	if !strings.Contains(input, ":") {
		input = strings.ToLower(input)
	}
	return input
}

// Account finds the authorization server of an account, without using cached identities. If a
// handle points to an account that does not claim it, the error is ErrMismatch. Errors are those of
// Find.
func (d *Discovery) Account(ctx context.Context, id syntax.AtIdentifier) (*Found, error) {
	d.once.Do(d.init)
	did, isDID := id.DID()
	if !isDID {
		d.resolver.Purge(id)
		var err error
		if did, err = d.resolver.ResolveHandle(ctx, syntax.Handle(id)); err != nil {
			return nil, identityError(err)
		}
	}
	d.resolver.Purge(syntax.AtIdentifier(did))
	who, err := d.resolver.Lookup(ctx, syntax.AtIdentifier(did))
	if err != nil {
		return nil, identityError(err)
	}
	if !isDID && who.Handle != syntax.Handle(id).Normalize() {
		if errors.Is(who.HandleErr, identity.ErrUnavailable) {
			return nil, identityError(who.HandleErr)
		}
		return nil, fmt.Errorf("%w: the handle %s points at %s, which does not have it", ErrMismatch, id, did)
	}
	out := &Found{DID: did}
	if who.Handle != syntax.InvalidHandle {
		out.Handle = who.Handle
	}
	return out, d.complete(ctx, out, who.Document)
}

// hosted finds the authorization server of an account. What is remembered of the account counts.
func (d *Discovery) hosted(ctx context.Context, did syntax.DID) (*Found, error) {
	doc, err := d.resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, identityError(err)
	}
	out := &Found{DID: did}
	return out, d.complete(ctx, out, doc)
}

// complete finds the servers of an account.
func (d *Discovery) complete(ctx context.Context, out *Found, doc *identity.Document) error {
	address, ok := doc.PDS()
	if !ok {
		return fmt.Errorf("%w: the document of %s names no PDS", ErrServer, out.DID)
	}
	pds, err := parseOrigin(address, d.Development)
	if err != nil {
		return fmt.Errorf("%w: PDS of %s: %w", ErrServer, out.DID, err)
	}
	out.PDS = pds
	issuer, err := d.resource(ctx, pds)
	if err != nil {
		return err
	}
	out.Server, err = d.serverOf(ctx, pds, issuer)
	return err
}

func (d *Discovery) findServer(ctx context.Context, address string) (*Found, error) {
	origin, err := parseOrigin(address, d.Development)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	issuer, err := d.resource(ctx, origin)
	if errors.Is(err, errNoResource) {
		s, err := d.Server(ctx, origin)
		return &Found{Server: s}, err
	}
	if err != nil {
		return nil, err
	}
	s, err := d.serverOf(ctx, origin, issuer)
	return &Found{PDS: origin, Server: s}, err
}

// serverOf returns an authorization server that a PDS has named.
func (d *Discovery) serverOf(ctx context.Context, pds, issuer string) (*Server, error) {
	s, err := d.Server(ctx, issuer)
	if err == nil && !s.protects(pds) {
		return nil, fmt.Errorf("%w: %s names the authorization server %s, which does not name it", ErrMismatch, pds, issuer)
	}
	return s, err
}

// errNoResource: the server is no PDS.
var errNoResource = fmt.Errorf("%w: no metadata of a protected resource", ErrServer)

// resource returns the issuer that a PDS names in its metadata (RFC 9728).
func (d *Discovery) resource(ctx context.Context, pds string) (string, error) {
	return d.resources.Get(ctx, pds, func(ctx context.Context, _ string, _ bool) (string, error) {
		text, ok, err := document(ctx, d.http, pds+"/.well-known/oauth-protected-resource")
		if err != nil {
			return "", err
		}
		if !ok {
			return "", fmt.Errorf("%w: %s", errNoResource, pds)
		}
		return parseResource(text, pds, d.Development)
	})
}

func parseResource(text []byte, pds string, development bool) (issuer string, err error) {
	var m struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
	}
	if err := exactjson.UnmarshalPlain(text, &m); err != nil {
		return "", fmt.Errorf("%w: metadata of %s: %w", ErrServer, pds, err)
	}
	switch {
	case m.Resource != pds:
		return "", fmt.Errorf("%w: %s has the metadata of the resource %.200q", ErrMismatch, pds, m.Resource)
	case len(m.Servers) != 1:
		return "", fmt.Errorf("%w: %s names %d authorization servers, not one", ErrServer, pds, len(m.Servers))
	}
	issuer, err = parseOrigin(m.Servers[0], development)
	if err != nil || issuer != m.Servers[0] {
		return "", fmt.Errorf("%w: %s names the authorization server %.200q, which is no origin", ErrServer, pds, m.Servers[0])
	}
	return issuer, nil
}

// Server returns an authorization server by its issuer, which is its origin. Metadata is cached for
// a minute. Errors are ErrTemporary, ErrServer and ErrMismatch.
func (d *Discovery) Server(ctx context.Context, issuer string) (*Server, error) {
	d.once.Do(d.init)
	return d.servers.Get(ctx, issuer, func(ctx context.Context, _ *Server, _ bool) (*Server, error) {
		text, ok, err := document(ctx, d.http, issuer+"/.well-known/oauth-authorization-server")
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%w: %s has no metadata of an authorization server", ErrServer, issuer)
		}
		return parseServer(text, issuer, d.Development)
	})
}
