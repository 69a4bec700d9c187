package pds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/session"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// Config configures a Server. URL, Store and Secrets are required.
type Config struct {
	// URL is the public URL, for example "https://pds.example.com". Plain HTTP requires
	// Development.
	URL string
	// ServiceDID is the server's own DID. Empty: the did:web of the URL's host.
	ServiceDID syntax.DID
	// Store holds all data. Its four parts may come from several backends.
	Store storage.Store

	// Secrets are the keys of the server: see [ReadSecrets].
	Secrets Secrets
	// RecoveryKey is a did:key that has authority over new DIDs above the server's rotation key.
	// Empty: none.
	RecoveryKey string

	// Policy says who may have an account, and under which handles. The default of its Domains is
	// the URL's host, or ".test" if that is localhost.
	Policy server.Policy
	// Mailer sends mail to accounts. Nil: methods that need it respond with status 501.
	Mailer server.Mailer
	// Outbox stores mail until the Mailer has accepted it, so that mail survives a crash. Nil, with
	// a Mailer: an outbox in the Store (see package mailqueue), from which Run and Close send.
	Outbox server.Outbox
	// Directory is the did:plc directory. Nil: the public one.
	Directory Directory
	// Resolver resolves identities. Nil: a resolver over Directory.
	Resolver *identity.Resolver
	// Catalog has the schemas of methods and records. Nil: lexicon.Builtin.
	Catalog *lexicon.Catalog

	// AppView serves methods that this server does not have, such as app.bsky.feed.getTimeline. The
	// caller's newest writes are added to its responses. The zero value: there is none.
	AppView AppView
	// Moderation may act as an administrator, and serves tools.ozone methods. Reports receives the
	// reports of accounts. The zero values: there are none.
	Moderation, Reports Service
	// Proxy, if not nil, may change the proxy that forwards methods, after the server has
	// configured it.
	Proxy func(p *proxy.Proxy)

	// OAuth configures OAuth for apps.
	OAuth OAuth
	// Operator configures the administrator's pages.
	Operator Operator
	// Home answers GET requests for "/". Nil: a short greeting.
	Home http.Handler

	// Relays are URLs of relays. They are asked to read this server when it starts and when it has
	// news.
	Relays []string
	// Subscribers returns the number of subscribers of the event stream, if something other than
	// Server.Outbox serves it. Nil: those of Server.Outbox.
	Subscribers func() int
	// Jetstream configures the JSON views of the event stream.
	Jetstream Jetstream
	// TimeServers are URLs of servers with correct clocks. This server's clock is compared with
	// their Date headers. None: the clock is compared only with the event log, and checked for
	// jumps.
	TimeServers []string
	// SignAnyway signs even if the clock is found to be wrong.
	SignAnyway bool

	// BlobLimit bounds a blob, BlobQuota all blobs of an account, and ImportLimit an imported
	// repository, in bytes. 0: 5 MiB, no quota (but 32 GiB while the account is not active), and
	// 1 GiB. A negative ImportLimit refuses imports.
	BlobLimit, BlobQuota, ImportLimit int64
	// BlobURL, if not nil, lets getBlob redirect to the place of the blobs: see [atproto.Service].
	BlobURL func(ctx context.Context, did syntax.DID, blob cid.Cid) (string, error)
	// Sniff recognises the type of a blob from its first bytes: see blobtype.Sniff. Nil: the
	// declared type is used.
	Sniff func(head []byte) (mime string, guess bool)
	// Indexes are kept for every account, in addition to the index of likes and follows: see
	// [repo.Index].
	Indexes []repo.Index
	// TreeCache bounds the memory of trees, and SpoolBytes the temporary files: see [repo.Config].
	TreeCache, SpoolBytes int64
	// Temp is the folder for temporary files. Empty: the system's. TempFiles, if not nil, replaces
	// it. WaitForReaders avoids temporary files for exports. See [repo.Config].
	Temp           string
	TempFiles      car.Temp
	WaitForReaders bool
	// ResetDelay is how long requestPasswordReset takes: see [server.Config].
	ResetDelay time.Duration
	// Backfill is how long events are kept for replay. 0: 72 hours.
	Backfill time.Duration
	// Decoders decode request bodies with other content codings: see [xrpc.Server.Decoders].
	Decoders map[string]func(io.Reader) (io.Reader, error)

	// Rates limits how often clients may call methods and guess passwords. Nil: the limits of the
	// official server, or none with Development. See package rate, and [NoRates]. If it has a
	// method Run(context.Context), as *rate.Limiter has, Server.Run calls it.
	Rates Rates
	// Proxies are the networks of trusted reverse proxies, whose X-Forwarded-For is used. None: the
	// header is ignored.
	Proxies limit.Proxies

	// Node identifies this server among several over one store.
	Node Node

	// Setup, if not nil, is called at the end of New. It can add, replace and wrap methods and
	// pages where another package calls New, as pdstest does.
	Setup func(s *Server)
	// Probe, if not nil, tests whether the places that requests write to, other than the store, are
	// writable: see [ProbeDir].
	Probe func(ctx context.Context) error
	// Development allows plain HTTP and private addresses, and handles under ".test".
	Development bool
	// Version is shown by _health.
	Version string
	// HTTP makes all requests to other servers. Nil: a client that reaches only public addresses,
	// and only by HTTPS, unless the operator has configured the address.
	HTTP *http.Client
	// Brand is the look of the pages and the name of their operator. If it has no Terms and
	// Privacy, those of Policy are used.
	Brand site.Brand
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger logs what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
	// Hooks are called on events, for metrics and tracing.
	Hooks Hooks
}

// Directory is a did:plc directory that can be read and written. [identity.PLCClient] implements
// it.
type Directory interface {
	identity.Directory
	server.Directory
}

// Rates limits how often clients may call.
type Rates interface {
	session.Guesses
	// Admit is called before anything else, and Limit after authentication: see [xrpc.Server].
	Admit(w http.ResponseWriter, r *xrpc.Request) error
	Limit(w http.ResponseWriter, r *xrpc.Request) error
	// Writes is called before a request writes several records: see [atproto.Service].
	Writes(r *xrpc.Request, creates, updates, deletes int) error
	// Endpoint is called before a request for an OAuth endpoint or a form of a page: see Limit in
	// [provider.Config] and [site.Config]. client is an OAuth client or empty.
	Endpoint(r *http.Request, name, client string) error
}

// NoRates has no limits.
type NoRates struct{}

func (NoRates) Admit(http.ResponseWriter, *xrpc.Request) error           { return nil }
func (NoRates) Limit(http.ResponseWriter, *xrpc.Request) error           { return nil }
func (NoRates) Writes(*xrpc.Request, int, int, int) error                { return nil }
func (NoRates) Endpoint(*http.Request, string, string) error             { return nil }
func (NoRates) Password(*xrpc.Request, string) (func(right bool), error) { return func(bool) {}, nil }
func (NoRates) Admin(*xrpc.Request, bool) error                          { return nil }

// OAuth configures OAuth for apps (see package provider). With the zero value, any app can request
// access.
type OAuth struct {
	// Off turns OAuth off: apps need passwords.
	Off bool
	// Trusted are the client_ids of apps that the operator vouches for: see [provider.Config].
	Trusted []string
	// Pages, if not nil, makes other pages than those of package pages. It is called when the rest
	// of the server is complete, so that it can use it and add to its Mux.
	Pages func(s *Server) (provider.Logins, provider.Pages)
	// NoAccountPages removes the pages below /account (see package owner). There are none with
	// Pages either.
	NoAccountPages bool
	// Replays remembers the proofs of calls. Nil: the memory of the process or, with Node.Shared,
	// the store, with one write for each call.
	Replays dpop.Replays
}

// Service is a server that the operator trusts: its URL and its DID. If the URL is empty, it is
// taken from the DID document.
type Service struct {
	URL string
	DID syntax.DID
}

// AppView is a service that serves methods for the accounts of this server.
type AppView struct {
	Service
	// CDN is a pattern of image URLs, for records that the AppView has not seen yet. It has %s for
	// preset, DID and CID. Empty: images come from this server.
	CDN string
	// HeaderTimeout is how long the headers of a response may take, and BodyTimeout how long its
	// body may stall. 0: 10 and 30 seconds. They apply to all services.
	HeaderTimeout, BodyTimeout time.Duration
	// MaxResponse bounds the bytes of a response that is held in memory to be modified. 0: 10 MiB.
	MaxResponse int64
}

// Bluesky is the AppView of Bluesky.
var Bluesky = AppView{Service: Service{URL: "https://api.bsky.app", DID: "did:web:api.bsky.app"}, CDN: "https://cdn.bsky.app/img/%s/plain/%s/%s@jpeg"}

// Hooks are called on events of a server. Nil ones are not called. They must be safe for concurrent
// use, and fast: the server waits for them.
type Hooks struct {
	// Request is called when an XRPC request has ended: see [xrpc.Server.Observe].
	Request func(r *xrpc.Request, status int, took time.Duration)
	// Trace begins a span for each XRPC request: see [xrpc.Server.Trace].
	Trace func(r *xrpc.Request) (end func(status int))
	// Refused is called for each request that was refused for lack of room.
	Refused func(r *http.Request, err *limit.Error)
	// Clock is called after each check of the clock, and Unsigned for each signature that was
	// refused because the clock is wrong.
	Clock    func(timecheck.Result)
	Unsigned func()
	// RelayAsked is called after each request to a relay to read this server, and RelayChecked with
	// what a relay knows about it.
	RelayAsked   func(crawl.Request)
	RelayChecked func(crawl.Check)
	// Mail is called for each event of the server's own outbox.
	Mail func(queue.Event)
	// Maintained is called with the findings after all accounts were examined.
	Maintained func(Maintenance)
	// Leads is called when this node, of several that share a store, gets or loses the lease of a
	// task: "crawl", "maintenance".
	Leads func(lease string, held bool)
}

// Validate returns an error that names what is missing or wrong.
func (c *Config) Validate() error {
	if err := checkURL(c.URL); err != nil {
		return fmt.Errorf("pds: Config.URL is the public address of the server, as https://pds.example.com, not %q: %w", c.URL, err)
	}
	switch {
	case c.URL != strings.ToLower(c.URL):
		return fmt.Errorf("pds: Config.URL is %q: it must be in lower case, since DID documents are compared with it", c.URL)
	case strings.HasPrefix(c.URL, "http:") && !c.Development:
		return fmt.Errorf("pds: Config.URL is %q: plain HTTP is for Config.Development only", c.URL)
	case c.Store.Repos == nil || c.Store.Events == nil || c.Store.Blobs == nil || c.Store.KV == nil:
		return errors.New("pds: Config.Store lacks a part: it has Repos, Events, Blobs and KV")
	case c.BlobLimit < 0 || c.BlobQuota < 0 || c.Backfill < 0:
		return errors.New("pds: Config.BlobLimit, BlobQuota and Backfill must not be negative")
	}
	if err := c.Node.check(); err != nil {
		return err
	}
	if l := c.Node.Lease; l != 0 && (l < time.Second || l > time.Hour) {
		return fmt.Errorf("pds: Config.Node.Lease is %s: from a second to an hour", l)
	}
	if _, err := syntax.ParseDID(string(c.serviceDID())); err != nil {
		return fmt.Errorf("pds: Config.ServiceDID, which is by default the did:web of the URL's host: %w", err)
	}
	if _, err := crypto.ParseDIDKey(c.RecoveryKey); err != nil && c.RecoveryKey != "" {
		return fmt.Errorf("pds: Config.RecoveryKey is not a did:key: %w", err)
	}
	if err := c.Brand.Validate(); err != nil {
		return fmt.Errorf("pds: Config.Brand: %w", err)
	}
	policy := c.policy()
	if err := policy.Validate(); err != nil {
		return fmt.Errorf("pds: Config.Policy: %w", err)
	}
	for _, part := range []struct {
		name string
		Service
	}{{"AppView", c.AppView.Service}, {"Moderation", c.Moderation}, {"Reports", c.Reports}} {
		if err := part.check(); err != nil {
			return fmt.Errorf("pds: Config.%s: %w", part.name, err)
		}
	}
	for name, list := range map[string][]string{"Relays": c.Relays, "TimeServers": c.TimeServers} {
		for _, address := range list {
			if u, err := url.Parse(address); err != nil || u.Hostname() == "" {
				return fmt.Errorf("pds: Config.%s has %q: give addresses, as https://relay.example.net", name, address)
			}
		}
	}
	if cdn := c.AppView.CDN; cdn != "" && strings.Count(cdn, "%s") != 3 {
		return fmt.Errorf("pds: Config.AppView.CDN is %q: it needs %%s three times, for preset, DID and CID", cdn)
	}
	for name, decode := range c.Decoders {
		if decode == nil {
			return fmt.Errorf("pds: Config.Decoders has no function for %q", name)
		}
	}
	return c.Secrets.check()
}

// check returns what is missing or wrong.
func (s *Secrets) check() error {
	switch {
	case len(s.MasterKeys) == 0:
		return errors.New("pds: Config.Secrets.MasterKeys is empty: use ReadSecrets, or give 32 random bytes, always the same, since the accounts' keys are sealed with them")
	case s.SessionKey != nil && len(s.SessionKey) < minSessionKey:
		return fmt.Errorf("pds: Config.Secrets.SessionKey is too short: give at least %d random bytes, or nil", minSessionKey)
	case len(s.RotationKeys) == 0:
		return errors.New("pds: Config.Secrets.RotationKeys is empty: use ReadSecrets, or give a key that stays the same, since only with it the DIDs of accounts can be changed")
	case slices.Contains(s.RotationKeys, nil):
		return errors.New("pds: Config.Secrets.RotationKeys has a nil key")
	}
	return nil
}

// minSessionKey is how many bytes a session key has at least.
const minSessionKey = 16

// checkURL returns what is wrong with the address of a server.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("it begins with https:// or http://")
	case u.Hostname() == "" || err != nil || port == 0:
		return errors.New("it has a host, and maybe a port")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return errors.New("nothing comes after the host and before it")
	}
	return nil
}

// check returns what is wrong with a service. Its address may be missing: then its DID document has
// it.
func (s Service) check() error {
	if s == (Service{}) {
		return nil
	}
	if _, err := syntax.ParseDID(string(s.DID)); err != nil {
		return err
	}
	if s.URL == "" {
		return nil
	}
	if err := checkURL(s.URL); err != nil {
		return fmt.Errorf("%q is no address of a service: %w", s.URL, err)
	}
	return nil
}

// serviceDID is the server's own DID.
func (c *Config) serviceDID() syntax.DID {
	u, _ := url.Parse(c.URL)
	return cmp.Or(c.ServiceDID, syntax.DID("did:web:"+strings.ReplaceAll(u.Host, ":", "%3A")))
}

// policy is the policy with its domains.
func (c *Config) policy() server.Policy {
	p := c.Policy
	if len(p.Domains) > 0 {
		return p
	}
	p.Domains = []string{".test"}
	if u, _ := url.Parse(c.URL); u.Hostname() != "localhost" {
		p.Domains = []string{"." + u.Hostname()}
	}
	return p
}

// withDefaults returns the configuration with what the zero value means.
func (c Config) withDefaults() Config {
	c.URL = strings.TrimSuffix(c.URL, "/")
	c.ServiceDID = c.serviceDID()
	c.Policy = c.policy()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Node.ID == "" {
		c.Node.ID = NodeID()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Directory == nil {
		c.Directory = &identity.PLCClient{HTTP: c.HTTP}
	}
	if c.Resolver == nil {
		c.Resolver = &identity.Resolver{PLC: c.Directory, HTTP: c.HTTP, Development: c.Development, Now: c.Now}
	}
	if c.Catalog == nil {
		c.Catalog = lexicon.Builtin()
	}
	if c.Rates == nil && c.Development {
		c.Rates = NoRates{}
	}
	if c.Backfill == 0 {
		c.Backfill = 72 * time.Hour
	}
	if c.BlobLimit == 0 {
		c.BlobLimit = 5 << 20
	}
	return c
}

// operatorTransport is that of requests to addresses that the operator has named. Nil: the default.
func (c *Config) operatorTransport() http.RoundTripper {
	if c.HTTP == nil {
		return nil
	}
	return c.HTTP.Transport
}
