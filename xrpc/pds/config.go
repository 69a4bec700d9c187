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

// Config says what a Server is made of. URL, Store and Secrets are required.
type Config struct {
	// URL is the public address, "https://pds.example.com". Plain HTTP is for Development.
	URL string
	// ServiceDID is the server's own DID. Empty: the did:web of the URL's host.
	ServiceDID syntax.DID
	// Store keeps everything. Its four parts may come from several backends.
	Store storage.Store

	// Secrets are the keys: see [ReadSecrets].
	Secrets Secrets
	// RecoveryKey is a did:key that gets authority over new DIDs before the rotation key. Empty:
	// none does.
	RecoveryKey string

	// Policy says who may have an account, and under which handles. Its Domains are by default the
	// URL's host, or ".test" if that is localhost.
	Policy server.Policy
	// Mailer sends mail to accounts. Nil: methods that need it answer with status 501.
	Mailer server.Mailer
	// Outbox keeps mail until the Mailer has taken it, so that what the server sends survives it.
	// Nil, with a Mailer: one in the Store (see package mailqueue), which Run and Close send from.
	Outbox server.Outbox
	// Directory is the did:plc directory. Nil: the public one.
	Directory Directory
	// Resolver resolves identities. Nil: one over Directory.
	Resolver *identity.Resolver
	// Catalog holds the schemas that methods and records are validated by. Nil: lexicon.Builtin.
	Catalog *lexicon.Catalog

	// AppView answers the methods that this server does not have, such as
	// app.bsky.feed.getTimeline; what the caller has just written is put into its answers. The zero
	// value: nobody does.
	AppView AppView
	// Moderation may act as an administrator, and answers tools.ozone methods; Reports gets the
	// reports of accounts. The zero values: nobody does.
	Moderation, Reports Service
	// Proxy, if not nil, may change what forwards methods, when the rest has been set.
	Proxy func(p *proxy.Proxy)

	// OAuth says how apps are let in.
	OAuth OAuth
	// Operator says what the administrator's pages show.
	Operator Operator
	// Home answers GET requests for "/". Nil: a short greeting.
	Home http.Handler

	// Relays are asked to read this server when it starts and has news: URLs.
	Relays []string
	// Subscribers returns how many read the event stream, where another part than Server.Outbox
	// serves it, as in Setup. Nil: those of Server.Outbox.
	Subscribers func() int
	// Jetstream serves events as JSON besides.
	Jetstream Jetstream
	// TimeServers are URLs of servers whose clocks are right, and whose Date headers the own clock
	// is compared with. None: the clock is compared with the event log only, and watched for jumps.
	TimeServers []string
	// SignAnyway signs although the clock is found to be wrong.
	SignAnyway bool

	// BlobLimit bounds a blob, BlobQuota all blobs of an account, ImportLimit an imported
	// repository: in bytes. 0: 5 MiB; no quota; 1 GiB. A negative ImportLimit refuses imports.
	BlobLimit, BlobQuota, ImportLimit int64
	// BlobURL, if not nil, lets getBlob redirect to where the blobs are: see [atproto.Service].
	BlobURL func(ctx context.Context, did syntax.DID, blob cid.Cid) (string, error)
	// Sniff recognises the type of a blob: see blobtype.Sniff. Nil: the declared type is believed.
	Sniff func(head []byte) (mime string, guess bool)
	// Indexes are kept for every account, besides that of likes and follows: see [repo.Index].
	Indexes []repo.Index
	// TreeCache and SpoolBytes bound memory for trees and temporary files: see [repo.Config].
	TreeCache, SpoolBytes int64
	// Temp is the folder for temporary files. Empty: the system's. TempFiles, if not nil, takes its
	// place, and WaitForReaders does without for exports: see [repo.Config].
	Temp           string
	TempFiles      car.Temp
	WaitForReaders bool
	// ResetDelay is how long requestPasswordReset takes: see [server.Config].
	ResetDelay time.Duration
	// Backfill is for how long events can be replayed. 0: 72 hours.
	Backfill time.Duration
	// Decoders decode request bodies of further content codings: see [xrpc.Server.Decoders].
	Decoders map[string]func(io.Reader) (io.Reader, error)

	// Rates bounds how often clients may call methods and guess passwords. Nil: as on the official
	// server, but with Development not at all. See package rate, and [NoRates]. If it has a method
	// Run(context.Context), as *rate.Limiter does, Server.Run calls it.
	Rates Rates
	// Proxies are the networks of the proxies in front, whose X-Forwarded-For is believed. None:
	// nobody's is.
	Proxies limit.Proxies

	// Node says which one this is of several servers over one store.
	Node Node

	// Setup, if not nil, is called at the end of New: a place to add, replace and wrap methods and
	// pages where another package calls New, as pdstest does.
	Setup func(s *Server)
	// Probe, if not nil, writes wherever requests write beside the store, to find out whether that
	// is possible: see [ProbeDir].
	Probe func(ctx context.Context) error
	// Development allows plain HTTP and private addresses, and handles under ".test".
	Development bool
	// Version is what _health tells.
	Version string
	// HTTP makes all requests to other servers. Nil: a client that reaches public addresses only,
	// by HTTPS only, unless the operator has named them.
	HTTP *http.Client
	// Brand is how the pages look that people see, and whose they are. Where it has no Terms and
	// Privacy, they are those of Policy.
	Brand site.Brand
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger gets what an operator should know. Nil: silent.
	Logger *slog.Logger
	// Hooks are told what happens: the place for metrics and tracing.
	Hooks Hooks
}

// Directory is a did:plc directory that can be read and written. [identity.PLCClient] is one.
type Directory interface {
	identity.Directory
	server.Directory
}

// Rates bounds how often clients may call.
type Rates interface {
	session.Guesses
	// Admit is asked first of all, and Limit after authentication: see [xrpc.Server].
	Admit(w http.ResponseWriter, r *xrpc.Request) error
	Limit(w http.ResponseWriter, r *xrpc.Request) error
	// Writes is asked before a request writes several records: see [atproto.Service].
	Writes(r *xrpc.Request, creates, updates, deletes int) error
	// Endpoint is asked before a request for an endpoint of OAuth or a form of a page: see the
	// Limit of [provider.Config] and [site.Config]. client is empty, or an OAuth client.
	Endpoint(r *http.Request, name, client string) error
}

// NoRates lets all clients call as often as they like.
type NoRates struct{}

func (NoRates) Admit(http.ResponseWriter, *xrpc.Request) error           { return nil }
func (NoRates) Limit(http.ResponseWriter, *xrpc.Request) error           { return nil }
func (NoRates) Writes(*xrpc.Request, int, int, int) error                { return nil }
func (NoRates) Endpoint(*http.Request, string, string) error             { return nil }
func (NoRates) Password(*xrpc.Request, string) (func(right bool), error) { return func(bool) {}, nil }
func (NoRates) Admin(*xrpc.Request, bool) error                          { return nil }

// OAuth says how apps are let in by OAuth (see package provider). The zero value lets all apps ask.
type OAuth struct {
	// Off: there is no OAuth, and apps need passwords.
	Off bool
	// Trusted are the client_ids of apps that the operator vouches for: see [provider.Config].
	Trusted []string
	// Pages, if not nil, makes other pages than those of package pages. It is called when the rest
	// of the server is there, so that it can use it and add to its Mux.
	Pages func(s *Server) (provider.Logins, provider.Pages)
	// NoAccountPages: there are no pages below /account (see package owner). There are none with
	// Pages either.
	NoAccountPages bool
	// Replays remembers the proofs of calls. Nil: the memory of the process; with Node.Shared the
	// store, which is one write for each call.
	Replays dpop.Replays
}

// Service is a server that the operator trusts: its address and its DID. Where the address is
// empty, it is looked up in the DID document.
type Service struct {
	URL string
	DID syntax.DID
}

// AppView is a service that answers methods for the accounts here.
type AppView struct {
	Service
	// CDN is the pattern of the addresses of images, for records that the AppView has not seen yet,
	// with %s for preset, DID and CID. Empty: the images come from this server.
	CDN string
	// HeaderTimeout is how long it may take to answer, BodyTimeout how long its answer may stall.
	// 0: 10 and 30 seconds. They hold for all services.
	HeaderTimeout, BodyTimeout time.Duration
	// MaxResponse bounds the bytes of an answer that is held in memory, to add to it. 0: 10 MiB.
	MaxResponse int64
}

// Bluesky is the AppView of Bluesky.
var Bluesky = AppView{Service: Service{URL: "https://api.bsky.app", DID: "did:web:api.bsky.app"}, CDN: "https://cdn.bsky.app/img/%s/plain/%s/%s@jpeg"}

// Hooks are told what happens on a server. Nil ones are left out. They must be safe for concurrent
// use, and quick: what they are told of waits for them.
type Hooks struct {
	// Request is told of each XRPC request when it has ended: see [xrpc.Server.Observe].
	Request func(r *xrpc.Request, status int, took time.Duration)
	// Trace begins a span for each XRPC request: see [xrpc.Server.Trace].
	Trace func(r *xrpc.Request) (end func(status int))
	// Refused is told of each request for which there was no room.
	Refused func(r *http.Request, err *limit.Error)
	// Clock is told of each check of the clock, and Unsigned of each signature that was refused
	// because the clock is wrong.
	Clock    func(timecheck.Result)
	Unsigned func()
	// RelayAsked is told of each request to a relay to read this server, RelayChecked of what a
	// relay knows of it.
	RelayAsked   func(crawl.Request)
	RelayChecked func(crawl.Check)
	// Mail is told what happens to messages in the server's own outbox.
	Mail func(queue.Event)
	// Maintained is told what was found when all accounts have been looked through.
	Maintained func(Maintenance)
	// Leads is told when this node, of those that share a store, begins or ceases to do what one of
	// them does: "crawl", "maintenance".
	Leads func(lease string, held bool)
}

// Validate returns an error that says what is missing or wrong.
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
