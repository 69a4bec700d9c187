package relay

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Identity resolves DIDs; *[identity.Resolver] implements it. If a relay follows more accounts than
// its resolver caches, it asks the directory again and again: see MaxEntries of
// [identity.Resolver].
type Identity interface {
	// ResolveDID returns the document of a DID, which is not changed. identity.ErrUnavailable means
	// that a later attempt may succeed.
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
	// Purge drops a DID from the cache.
	Purge(id syntax.AtIdentifier)
}

// Relay is a relay. Set its fields before its first use. Then it is safe for concurrent use. Store
// is required. Only one relay process may use a Store at a time.
type Relay struct {
	// Store has heads, events and the relay's own keys. It needs no Blobs.
	Store storage.Store
	// Identity resolves accounts. Nil: an identity.Resolver that caches as many documents as Cache
	// says.
	Identity Identity
	// HTTP makes requests to hosts. Nil: the client of safehttp.NewClient, which reaches only
	// public addresses. Any other should be as careful.
	HTTP *http.Client

	// Policy applies to hosts without a policy of their own. The zero value is Strict.
	Policy Policy
	// Limits apply to hosts without limits of their own. Zero fields mean those of DefaultLimits.
	Limits Limits
	// DomainLimits has limits by domain, for hosts below it without limits of their own. The key
	// "example.net" applies to "host.example.net".
	DomainLimits map[string]Limits
	// Retention is how long events are kept. 0: 72 hours; negative: forever.
	Retention time.Duration
	// RetentionBytes bounds the bytes of stored messages, whatever their age. It is enforced every
	// ten minutes, so it may be exceeded for a while. 0: no bound.
	RetentionBytes int64
	// NewHostsPerDay bounds how many new hosts requestCrawl adds in a day. 0: 50; negative: none.
	NewHostsPerDay int
	// NewHostsPerNetwork bounds how many of them may come from one client network (an IPv4 address
	// or an IPv6 /64), so that nobody uses them all up. 0: a fifth of NewHostsPerDay, at least one;
	// negative: no bound.
	NewHostsPerNetwork int
	// HoldFor is how long messages wait for an identity that cannot be resolved. After that, the
	// account is desynchronized, and repaired later. 0: one hour.
	HoldFor time.Duration
	// ResetAfter is how many times in a row a host must refuse the cursor (FutureCursor), or send
	// unreadable messages, before the relay starts anew. It then compares all the host's
	// repositories with its own, and reads from the oldest event or from the present. 0: 3;
	// negative: never.
	ResetAfter int
	// HostMemory bounds the bytes of waiting messages of one host. 0: 4 MiB.
	HostMemory int64
	// Memory bounds the bytes of waiting messages of all hosts together. Each host may have one
	// message of up to 64 KiB beyond it, and another quarter is for larger messages that are being
	// read. When half of it is used, messages that wait for an identity are given up, as after
	// HoldFor. 0: 256 MiB, or 16 MiB on WebAssembly.
	Memory int64
	// Parallel is how many accounts of a host are processed concurrently. 0: 32.
	Parallel int
	// Cache is how many accounts are cached in memory. 0: 100,000, or 2,000 on WebAssembly.
	Cache int
	// Window is stream.Outbox.Window of the Outbox.
	Window int
	// NoCollections turns off the index of listReposByCollection, and with it the requests of
	// describeRepo for accounts whose history is unknown.
	NoCollections bool
	// Closed refuses requestCrawl: only the operator adds hosts.
	Closed bool
	// Forward names other relays, such as "relay.example.net". An accepted requestCrawl is passed
	// on to them, at most once a minute for each host. A request that a relay has passed on is not
	// passed on again.
	Forward []string
	// Development allows hosts on localhost, by plain HTTP and with a port.
	Development bool

	// Observe, if not nil, is called for each message that was processed, for metrics. It must not
	// block.
	Observe func(Observation)
	// Logger logs what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	// These are made by setUp, and do not change afterwards. Each has a lock of its own.
	once    sync.Once
	outbox  *stream.Outbox
	cache   *accountCache
	ledger  ledger
	memory  budget
	large   places       // for large frames that are being read
	refresh recentlyDone // when documents were last fetched anew, by DID
	asked   recentlyDone // when hosts were last asked for the status of accounts, by DID
	repairs recentlyDone // when accounts were last repaired, by DID

	forwarded  recentlyDone  // when requests for crawls were last passed on, by host
	forwarding chan struct{} // has a value for each that is being passed on

	// loading is held while the hosts of the store are loaded, once.
	loading sync.Mutex
	loaded  bool
	id      string // of this relay, for the loop guard; set by load, and read after it

	// settings is held while the rows of hosts, and bans, are changed in the store and then in
	// memory. So what is known is what is stored, whoever else changes it. It is taken before mu,
	// and mu before that of a host.
	settings sync.Mutex

	// mu guards what follows, and host.started, stop and path. Nothing waits while it is held.
	mu      sync.Mutex
	hosts   map[string]*host // changed with settings, too
	bans    map[string]Ban   // changed with settings, too
	runs    bool             // Run was called, and has not returned
	running context.Context  // of Run; nil: nothing new is begun
	// wg counts the goroutines that Run waits for. Only background adds to it, and those that are
	// counted in it: so nothing is added once Run waits and none is left.
	wg sync.WaitGroup
}

// Observation is the outcome of one message.
type Observation struct {
	Host string
	// Kind is the kind of the message, such as "#commit". It is empty for unknown kinds and for
	// bytes that are not a message. So there are few kinds, whatever hosts send.
	Kind   string
	Result Result
	// Rule is the reason why the message was not passed on, or the rule that it breaks
	// nevertheless. Empty: it broke none.
	Rule  Rule
	Bytes int
	// Waited is the time from the arrival of the message to its result.
	Waited time.Duration
}

// Result is the outcome of a message.
type Result string

// The results.
const (
	Passed  Result = "passed"  // it was passed on
	Dropped Result = "dropped" // it was not
)

// Errors that callers branch on.
var (
	// ErrNoHost: the relay does not know the host.
	ErrNoHost = errors.New("relay: no such host")
	// ErrHostname: the name is not that of a public host.
	ErrHostname = errors.New("relay: not the name of a public host")
	// ErrBanned: the host, or a domain above it, is banned.
	ErrBanned = errors.New("relay: the host is banned")
	// ErrLoop: the host is a relay that was not added as one, or follows this one.
	ErrLoop = errors.New("relay: the host is a relay")
	// ErrNoAccount: the relay does not know the account.
	ErrNoAccount = errors.New("relay: no such account")
)

// setUp makes the parts of the relay, once.
func (r *Relay) setUp() {
	r.once.Do(func() {
		if r.Store.Repos == nil || r.Store.Events == nil || r.Store.KV == nil {
			panic("relay: Relay.Store needs Repos, Events and KV")
		}
		r.Cache = cmp.Or(r.Cache, platform.Default(100_000, 2_000))
		if r.Identity == nil {
			r.Identity = &identity.Resolver{Development: r.Development, MaxEntries: r.Cache, Now: r.Now}
		}
		if r.HTTP == nil {
			r.HTTP = safehttp.NewClient(safehttp.Config{AllowPrivate: r.Development, AllowHTTP: r.Development})
		}
		if r.Now == nil {
			r.Now = time.Now
		}
		if r.Logger == nil {
			r.Logger = slog.New(slog.DiscardHandler)
		}
		r.Retention = cmp.Or(r.Retention, 72*time.Hour)
		r.NewHostsPerDay = cmp.Or(r.NewHostsPerDay, 50)
		r.NewHostsPerNetwork = cmp.Or(r.NewHostsPerNetwork, max(r.NewHostsPerDay/5, 1))
		r.HoldFor = cmp.Or(r.HoldFor, time.Hour)
		r.ResetAfter = cmp.Or(r.ResetAfter, 3)
		r.HostMemory = cmp.Or(r.HostMemory, 4<<20)
		r.Memory = cmp.Or(r.Memory, platform.Default[int64](256<<20, 16<<20))
		r.Parallel = cmp.Or(r.Parallel, 32)
		r.memory.limit = r.Memory
		r.large = make(places, max(1, r.Memory/4/maxFrame))
		r.forwarding = make(chan struct{}, forwardAtOnce)
		r.outbox = &stream.Outbox{Events: r.Store.Events, Window: r.Window}
		r.cache = newAccountCache(r.Cache)
		r.hosts = make(map[string]*host)
		r.ledger.kv = r.Store.KV
	})
}

// Outbox serves the relay's stream. Every call returns the same value. Close it before the process
// ends.
func (r *Relay) Outbox() *stream.Outbox {
	r.setUp()
	return r.outbox
}

// Run follows the hosts until the context ends. Then it waits for running work and saves the
// cursors. It returns the context's error, or an error of the store at the start.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	if !r.setRunning() {
		return errors.New("relay: it runs already")
	}
	defer r.clearRunning()
	// Before any host can bring the accounts anew.
	if err := r.finishRemovals(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.running = ctx
	r.backgroundLocked(r.resume)
	for _, h := range r.hosts {
		r.startLocked(h)
	}
	r.mu.Unlock()
	r.saveAndTrim(ctx)
	r.mu.Lock()
	r.running = nil
	r.mu.Unlock()
	r.wg.Wait()
	// The cursors are what comes last, and the context has ended.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := r.saveCursors(last); err != nil {
		r.Logger.Error("relay: cursors were not saved", "err", err)
	}
	return ctx.Err()
}

// setRunning notes that the relay runs, and reports false if it did before.
func (r *Relay) setRunning() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs {
		return false
	}
	r.runs = true
	return true
}

func (r *Relay) clearRunning() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = false
}

// background runs a function that Run waits for, until the context ends. It reports false if the
// relay does not run.
func (r *Relay) background(fn func(ctx context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.backgroundLocked(fn)
}

func (r *Relay) backgroundLocked(fn func(ctx context.Context)) bool {
	ctx := r.running
	if ctx == nil || ctx.Err() != nil {
		return false
	}
	r.wg.Go(func() { fn(ctx) })
	return true
}

// Intervals of background work.
const (
	saveEvery = 2 * time.Second
	trimEvery = 10 * time.Minute
)

// saveAndTrim saves cursors and trims the log, now and then, until the context ends.
func (r *Relay) saveAndTrim(ctx context.Context) {
	save, trim := time.NewTicker(saveEvery), time.NewTicker(trimEvery)
	defer save.Stop()
	defer trim.Stop()
	r.trim(ctx)
	for {
		select {
		case <-save.C:
			if err := r.saveCursors(ctx); err != nil && ctx.Err() == nil {
				r.Logger.Error("relay: cursors were not saved", "err", err)
			}
		case <-trim.C:
			r.trim(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// load reads the hosts and bans of the store, once.
func (r *Relay) load(ctx context.Context) error {
	r.setUp()
	r.loading.Lock()
	defer r.loading.Unlock()
	if r.loaded {
		return nil
	}
	rows, bans, id, err := r.ledger.load(ctx, rand.Text())
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id, r.bans, r.loaded = id, bans, true
	for name, row := range rows {
		r.hosts[name] = newHost(r, name, row)
	}
	return nil
}

// startLocked starts a host if the relay runs. A local host without its store waits for AddLocal.
func (r *Relay) startLocked(h *host) {
	if r.running == nil || h.started || r.bannedLocked(h.name) != nil || h.local() && h.store.Load() == nil {
		return
	}
	ctx, stop := context.WithCancel(r.running)
	h.started = r.backgroundLocked(func(context.Context) {
		h.run(ctx)
		h.queue.drain()
		stop()
		r.mu.Lock()
		defer r.mu.Unlock()
		h.started = false
		r.startLocked(h) // if it was banned, and is no longer
	})
	if h.stop = stop; !h.started {
		stop()
	}
}

// verifier checks the messages of one account.
func (r *Relay) verifier(key keyFunc) *commit.Verifier {
	return &commit.Verifier{Key: key, Now: r.Now}
}
