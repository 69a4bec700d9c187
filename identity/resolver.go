package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/loadcache"
	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Identity is the resolved identity of an account.
type Identity struct {
	DID syntax.DID
	// Handle is the handle that the document claims, in lower case, if it points back to the DID;
	// otherwise syntax.InvalidHandle.
	Handle syntax.Handle
	// HandleErr is the reason why Handle is invalid: ErrMismatch (the handle points to another DID,
	// or the document does not claim it), or an error of ResolveHandle.
	HandleErr error
	Document  *Document // shared: not to be changed
}

// Directory resolves did:plc; *PLCClient implements it. Errors must be those of PLCClient.Resolve.
type Directory interface {
	Resolve(ctx context.Context, did syntax.DID) (*Document, error)
}

// DNS looks up TXT records; *net.Resolver implements it. A name without records gives a
// *net.DNSError with IsNotFound.
type DNS interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Resolver resolves DIDs and handles, and caches the results. The zero value is ready to use. It is
// safe for concurrent use. Do not copy it, or change its fields after the first use.
//
// If a result cannot be refreshed because of a failure of the network or the other side, the old
// result is used for up to StaleFor more. "Not found" and "tombstoned" are not failures: they
// replace the old result. Concurrent requests for the same identifier share one resolution.
type Resolver struct {
	// PLC resolves did:plc; default: the public directory, without verification of its log.
	PLC Directory
	// HTTP fetches did:web documents and the HTTPS records of handles; default: the
	// client of safehttp.NewClient. Any other should be as careful.
	HTTP *http.Client
	// DNS looks up the TXT records of handles; default: the system's resolver, or DNSOverHTTPS on
	// WebAssembly.
	DNS DNS
	// Development allows what is safe only on a developer's machine: did:web of localhost, with or
	// without a port, by plain HTTP; handles under ".test"; and, unless HTTP is set, connections to
	// private addresses.
	Development bool

	// TTL is how long a result is fresh; default 1 hour.
	TTL time.Duration
	// StaleFor is how long after TTL a result is used if it cannot be refreshed; default 23 hours;
	// negative: not at all.
	StaleFor time.Duration
	// NegativeTTL is how long a failure is cached; default 30 seconds.
	NegativeTTL time.Duration
	// Timeout bounds one resolution; default 5 seconds.
	Timeout time.Duration
	// MaxEntries bounds the cache of documents and the cache of handles, each; default 10,000, or
	// 1,000 on WebAssembly. A document of more than 4 KiB counts as several entries.
	MaxEntries int
	// Now is the clock; default time.Now.
	Now func() time.Time

	once     sync.Once
	plc      Directory
	http     *http.Client // follows redirects
	webHTTP  *http.Client // follows none
	dns      DNS
	dids     *loadcache.Cache[syntax.DID, *Document]
	byHandle *loadcache.Cache[syntax.Handle, syntax.DID]
}

func (r *Resolver) init() {
	r.plc, r.http, r.dns = r.PLC, r.HTTP, r.DNS
	if r.plc == nil {
		r.plc = &PLCClient{}
	}
	if r.http == nil {
		r.http = safehttp.NewClient(safehttp.Config{AllowPrivate: r.Development, AllowHTTP: r.Development})
	}
	r.webHTTP = safehttp.WithoutRedirects(r.http)
	if r.dns == nil {
		r.dns = defaultDNS(r.HTTP)
	}
	r.dids = loadcache.New(cacheConfig[syntax.DID, *Document](r))
	r.dids.Cost = func(d *Document) int { return 1 + d.size()/4096 }
	r.byHandle = loadcache.New(cacheConfig[syntax.Handle, syntax.DID](r))
}

func defaultDNS(client *http.Client) DNS {
	if platform.Wasm {
		return &DNSOverHTTPS{HTTP: client}
	}
	return net.DefaultResolver
}

func cacheConfig[K comparable, V any](r *Resolver) loadcache.Config[K, V] {
	c := loadcache.Config[K, V]{
		TTL: r.TTL, Stale: max(r.StaleFor, 0), Negative: r.NegativeTTL, Timeout: r.Timeout, Max: r.MaxEntries, Now: r.Now,
		Final: isDefinite, GaveUp: func(_ K, err error) error { return transportError(err) },
	}
	if r.StaleFor == 0 {
		c.Stale = 23 * time.Hour
	}
	if c.TTL <= 0 {
		c.TTL = time.Hour
	}
	if c.Negative <= 0 {
		c.Negative = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Max <= 0 {
		c.Max = platform.Default(10_000, 1_000)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// isDefinite reports whether an error says something about the identifier, rather
// than that nothing could be learned.
func isDefinite(err error) bool {
	for _, e := range []error{ErrNotFound, ErrTombstoned, ErrAmbiguous, ErrInvalid, ErrMethod} {
		if errors.Is(err, e) {
			return !errors.Is(err, ErrUnavailable)
		}
	}
	return false
}

// load makes a load of the cache, which needs nothing of what was held.
func load[V any](f func(context.Context) (V, error)) loadcache.Load[V] {
	return func(ctx context.Context, _ V, _ bool) (V, error) { return f(ctx) }
}

// ResolveDID returns the document of a DID. The document is shared and must not be changed. Errors
// are ErrInvalid, ErrMethod, ErrNotFound, ErrTombstoned, ErrUnavailable, ErrTooLarge, ErrDocument,
// ErrMismatch and ErrAddress.
func (r *Resolver) ResolveDID(ctx context.Context, did syntax.DID) (*Document, error) {
	r.once.Do(r.init)
	var fetch func(context.Context) (*Document, error)
	switch did.Method() {
	case "plc":
		if err := checkPLC(did); err != nil {
			return nil, err
		}
		fetch = func(ctx context.Context) (*Document, error) { return r.plc.Resolve(ctx, did) }
	case "web":
		url, err := webURL(did, r.Development)
		if err != nil {
			return nil, err
		}
		fetch = func(ctx context.Context) (*Document, error) { return fetchDocument(ctx, r.webHTTP, did, url) }
	default:
		if _, err := syntax.ParseDID(string(did)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return nil, fmt.Errorf("%w: %.64q", ErrMethod, did)
	}
	return r.dids.Get(ctx, did, load(fetch))
}

// ResolveHandle returns the DID that a handle points to. The account need not claim the handle: see
// [Resolver.Lookup]. Errors are ErrInvalid, ErrNotFound, ErrAmbiguous and ErrUnavailable.
func (r *Resolver) ResolveHandle(ctx context.Context, handle syntax.Handle) (syntax.DID, error) {
	r.once.Do(r.init)
	h, err := syntax.ParseHandle(string(handle))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	h = h.Normalize()
	if !r.allowed(h) {
		return "", fmt.Errorf("%w: %s is under a reserved top-level domain", ErrInvalid, h)
	}
	return r.byHandle.Get(ctx, h, load(func(ctx context.Context) (syntax.DID, error) { return lookupHandle(ctx, r.dns, r.http, h) }))
}

func (r *Resolver) allowed(h syntax.Handle) bool {
	return h.AllowedTLD() && (r.Development || h.TLD() != "test")
}

// Lookup resolves a DID or a handle to an account, and checks that its document and its handle
// point to each other. If they do not, that is not an error: the account has the Handle
// syntax.InvalidHandle. So a caller that looks up a handle, and wants the account only if the
// handle is valid, must compare Identity.Handle.
//
// Errors are those of ResolveDID and, for a handle, those of ResolveHandle.
func (r *Resolver) Lookup(ctx context.Context, id syntax.AtIdentifier) (*Identity, error) {
	did, isDID := id.DID()
	if !isDID {
		var err error
		if did, err = r.ResolveHandle(ctx, syntax.Handle(id)); err != nil {
			return nil, err
		}
	}
	doc, err := r.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	out := &Identity{DID: did, Handle: syntax.InvalidHandle, Document: doc}
	claimed, ok := doc.Handle()
	switch {
	case !ok:
		out.HandleErr = fmt.Errorf("%w: the document of %s claims no handle", ErrMismatch, did)
	case !isDID && claimed != syntax.Handle(id).Normalize():
		out.HandleErr = fmt.Errorf("%w: %s points at %s, which claims %s", ErrMismatch, id, did, claimed)
	default:
		back, err := r.ResolveHandle(ctx, claimed)
		if err == nil && back != did {
			err = fmt.Errorf("%w: %s claims %s, which points at %s", ErrMismatch, did, claimed, back)
		}
		if out.HandleErr = err; err == nil {
			out.Handle = claimed
		}
	}
	return out, nil
}

// Purge drops a handle, or a DID with the handle that it claimed, from the cache. Call it after a
// change: an #identity event (for its DID and its handle), a signature that does not verify, or a
// change by the host itself.
func (r *Resolver) Purge(id syntax.AtIdentifier) {
	r.once.Do(r.init)
	if did, ok := id.DID(); ok {
		if doc, ok := r.dids.Purge(did); ok {
			if h, ok := doc.Handle(); ok {
				r.byHandle.Purge(h)
			}
		}
		return
	}
	r.byHandle.Purge(syntax.Handle(id).Normalize())
}
