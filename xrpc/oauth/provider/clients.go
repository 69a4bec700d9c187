package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/loadcache"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Client describes an app to users.
type Client struct {
	// ID is the client_id: the URL of its metadata, or "http://localhost…".
	ID string
	// Name and Logo are from its metadata. They are empty unless it is Trusted, since any app can
	// claim another's name.
	Name, Logo string
	// URI, Terms and Policy are URLs of its pages. They may be empty.
	URI, Terms, Policy string
	// Trusted is set if the operator vouches for the app.
	Trusted bool
	// Confidential is set if the app authenticates with a key of its own.
	Confidential bool
	// Loopback is set for a program on the user's own device. Nobody can tell which program it is.
	Loopback bool
}

// client is a client with its metadata.
type client struct {
	*metadata
	Client
	id string
}

func (p *Provider) newClient(m *metadata) client {
	c := client{metadata: m, id: m.ID, Client: Client{
		ID: m.ID, URI: m.URI, Terms: m.Terms, Policy: m.Policy,
		Trusted: slices.Contains(p.cfg.Trusted, m.ID), Confidential: m.AuthMethod == authPrivateKey,
		Loopback: strings.HasPrefix(m.ID, loopbackPrefix),
	}}
	if c.Trusted {
		c.Client.Name, c.Client.Logo = m.Name, m.Logo
	}
	return c
}

// remembers reports whether what was granted to the client may be granted again without a question.
func (c *client) remembers() bool { return !c.Loopback && (c.Confidential || c.Trusted) }

// How long fetched client metadata and keys are used.
const (
	documentLife  = 10 * time.Minute
	documentStale = 24 * time.Hour // beyond that, while it cannot be fetched
	documentRetry = 30 * time.Second
	fetchTimeout  = 10 * time.Second
	maxDocument   = 512 << 10
	// maxDocuments bounds the memory of documents, in KiB of their text. What could not be fetched
	// counts as one.
	maxDocuments = 32 << 10
)

type document struct {
	metadata *metadata
	keys     *keySet
	size     int
}

func (p *Provider) newDocuments() *loadcache.Cache[string, *document] {
	return loadcache.New(loadcache.Config[string, *document]{
		TTL: documentLife, Stale: documentStale, Negative: documentRetry, Timeout: fetchTimeout, Max: maxDocuments, Now: p.now,
		Cost:  func(d *document) int { return 1 + d.size/1024 },
		Final: func(err error) bool { return errors.Is(err, errDocument) },
		GaveUp: func(string, error) error {
			return fail(codeInvalidMetadata, "The client metadata takes too long to fetch")
		},
	})
}

// errDocument: a document was fetched, and it is not good.
var errDocument = errors.New("the document is not good")

type badDocument struct{ err *Error }

func (e badDocument) Error() string      { return e.err.Error() }
func (badDocument) Is(target error) bool { return target == errDocument }
func (e badDocument) Unwrap() error      { return e.err }

// client returns a client by its client_id.
func (p *Provider) client(ctx context.Context, id string) (client, error) {
	if strings.HasPrefix(id, loopbackPrefix) {
		m, err := loopback(id)
		if err != nil {
			return client{}, err
		}
		return p.newClient(m), nil
	}
	if err := discoverable(id); err != nil {
		return client{}, err
	}
	d, err := p.get(ctx, id, func(ctx context.Context) (*document, error) {
		text, err := p.fetch(ctx, id, true)
		if err != nil {
			return nil, err
		}
		m, err := parseMetadata(id, text)
		if err != nil {
			return nil, final(err)
		}
		return &document{metadata: m, size: len(text)}, nil
	})
	if err != nil {
		return client{}, err
	}
	return p.newClient(d.metadata), nil
}

// Describe returns an app by its client_id. It fetches the app's metadata, unless it has a recent
// copy.
func (p *Provider) Describe(ctx context.Context, clientID string) (Client, error) {
	c, err := p.client(ctx, clientID)
	return c.Client, err
}

// final marks an error of a document that was fetched.
func final(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return badDocument{e}
	}
	return err
}

// keys returns the keys that a client signs assertions with.
func (p *Provider) keys(ctx context.Context, c client) (*keySet, error) {
	if c.JWKS != nil {
		return c.JWKS, nil
	}
	d, err := p.get(ctx, "jwks "+c.JWKSURI, func(ctx context.Context) (*document, error) {
		text, err := p.fetch(ctx, c.JWKSURI, false)
		if err != nil {
			return nil, err
		}
		set := &keySet{}
		if err := exactjson.UnmarshalPlain(text, set); err != nil {
			return nil, final(fail(codeInvalidClient, "The keys at jwks_uri are malformed: %v", err))
		}
		return &document{keys: set, size: len(text)}, nil
	})
	if err != nil {
		return nil, err
	}
	return d.keys, nil
}

// get returns a document from the cache, or loads it.
func (p *Provider) get(ctx context.Context, key string, load func(context.Context) (*document, error)) (*document, error) {
	d, err := p.documents.Get(ctx, key, func(ctx context.Context, _ *document, _ bool) (*document, error) { return load(ctx) })
	var busy *limit.Error
	if errors.As(err, &busy) {
		p.documents.Purge(key) // that says nothing about the document
	}
	return d, err
}

// fetch fetches a document. strict demands its media type.
func (p *Provider) fetch(ctx context.Context, url string, strict bool) ([]byte, error) {
	leave, err := p.fetching.Enter(ctx, limit.ClientOf(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	bad := func(format string, args ...any) error {
		return fail(codeInvalidMetadata, "Cannot fetch %s: %s", url, fmt.Sprintf(format, args...))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, bad("not an address")
	}
	if port := req.URL.Port(); port != "" && port != "443" {
		return nil, bad("the port must be 443")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		p.log.DebugContext(ctx, "client metadata", "url", url, "err", err)
		return nil, bad("there is no answer")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, bad("the answer has status %d, not 200", resp.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); strict && (err != nil || kind != "application/json") {
		return nil, bad("the answer is not application/json")
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case errors.Is(err, safehttp.ErrTooLarge), len(text) > maxDocument:
		return nil, bad("the answer is longer than %d bytes", maxDocument)
	case err != nil:
		return nil, bad("the answer is cut off")
	}
	return text, nil
}

// String returns the name of the client to show to users.
func (c Client) String() string {
	switch {
	case c.Loopback:
		return "An application on your device"
	case c.Trusted && c.Name != "":
		return c.Name
	}
	host, path, _ := strings.Cut(strings.TrimPrefix(c.ID, "https://"), "/")
	if path == "oauth-client-metadata.json" {
		return host
	}
	return fmt.Sprintf("%s/%s", host, path)
}
