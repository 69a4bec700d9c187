package indexer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Resolver resolves identities; *identity.Resolver implements it.
type Resolver interface {
	// ResolveDID returns the document of a DID.
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
	// Lookup resolves an identity and verifies its handle.
	Lookup(ctx context.Context, id syntax.AtIdentifier) (*identity.Identity, error)
	// Purge drops a DID from the cache.
	Purge(id syntax.AtIdentifier)
}

// Indexer copies the records of a scope into a sink. Sink and at least one source are required; all
// other fields have defaults. Do not change fields after Run was called. Its methods may be called
// concurrently.
type Indexer struct {
	// Sources are the streams to follow.
	Sources []Source
	// Scope selects the accounts and collections to index. If it differs from that of the last run,
	// records are added and removed: see SetScope.
	Scope Scope
	// Sink stores the records.
	Sink Sink

	// Identity resolves DIDs. Nil: an identity.Resolver with its defaults.
	Identity Resolver
	// Handles resolves and verifies the handle of each account, which costs a DNS or HTTPS request
	// for each.
	Handles bool
	// HTTP makes requests to the sources, which the operator has named. It must have no Timeout,
	// because streams do not end. Nil: http.DefaultClient.
	HTTP *http.Client
	// Hosts makes requests to the PDSes that DID documents name. It must have no Timeout either.
	// Nil: a client of safehttp.NewClient, which reaches only public addresses.
	Hosts *http.Client

	// Workers is how many accounts' events are verified concurrently. 0: 16.
	Workers int
	// Writers is how many transactions run concurrently in the sink. 0: one, which suits SQLite. A
	// database server may be faster with several.
	Writers int
	// Fetches is how many repositories are read concurrently, and FetchesPerHost how many from one
	// host. 0: 8 and 2.
	Fetches, FetchesPerHost int
	// MaxRepo bounds the bytes of a repository's CAR file. 0: 4 GiB.
	MaxRepo int64
	// Temp opens temporary files, for repositories that are being read. Nil: car.TempDir("").
	Temp car.Temp
	// Relist is the interval at which the accounts of sources are listed again, if Scope has All or
	// Signal. Other accounts are compared with their hosts at the same interval, spread over half
	// of it. 0: once a day; negative: only for a new source, or after missed events.
	Relist time.Duration

	// Fetched, if not nil, is called after a repository was read, or could not be read (err). took
	// is the time for that. It must not block.
	Fetched func(did syntax.DID, took time.Duration, err error)
	// Log logs errors that no method returns. Nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	mu      sync.Mutex
	current *run   // while it runs
	scope   *scope // set by SetScope; nil: that of Scope
}

// run is an Indexer that runs.
type run struct {
	*Indexer
	scope    atomic.Pointer[scope] // by which events are taken
	next     atomic.Pointer[scope] // which it is to be: see sweepWhenAsked
	scopes   []string              // those by which events were taken since all accounts were held against one
	verifier *commit.Verifier
	w        *writer
	lanes    *lanes
	sources  []*source
	storing  sync.Mutex // while positions are stored
	jobs     jobs
	hosts    hosts
	checked  *memo.Map[syntax.DID, time.Time] // when a document was last fetched on suspicion
	swept    chan struct{}                    // has an element when the accounts are to be held against the scope
	count    counters
}

// Run follows the sources until the context ends, and returns its error. It returns another error
// if the configuration is invalid, or if the sink cannot be read at the start. After all other
// errors it retries.
func (ix *Indexer) Run(ctx context.Context) error {
	r, err := ix.start(ctx)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return err
	}
	defer func() {
		ix.mu.Lock()
		ix.current = nil
		ix.mu.Unlock()
	}()
	if len(r.swept) > 0 { // the scope is another one; that is noted before any event is taken by it
		at := r.startScope(r.scope.Load())
		if err := persist(ctx, r.sinkFailed, func() error { return ix.Sink.Apply(ctx, &Transaction{Positions: at}) }); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var writers, work, readers sync.WaitGroup
	// The writer ends last, so that what others have begun can be stored.
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	for range orDefault(ix.Writers, 1) {
		writers.Go(func() { r.w.run(writing) })
	}
	r.lanes = newLanes(orDefault(ix.Workers, 16), func(did syntax.DID, tasks []task) { r.tasks(inLane(ctx), did, tasks) })
	for _, s := range r.sources {
		readers.Go(func() { s.follow(ctx) })
	}
	work.Go(func() { r.fetchAll(ctx) })
	work.Go(func() { r.sweepWhenAsked(ctx) })
	work.Go(func() { r.storePositions(ctx) })
	work.Go(func() { r.checkHeads(ctx) })
	<-ctx.Done()
	readers.Wait()
	work.Wait()
	r.lanes.running.Wait()
	last, done := context.WithTimeout(writing, 10*time.Second)
	r.storeNow(last, nil)
	done()
	stop()
	writers.Wait()
	return ctx.Err()
}

// start makes a run, which is the current one from then on.
func (ix *Indexer) start(ctx context.Context) (*run, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	switch {
	case ix.current != nil:
		return nil, errors.New("indexer: it runs already")
	case ix.Sink == nil:
		return nil, errors.New("indexer: Indexer.Sink is missing")
	case len(ix.Sources) == 0:
		return nil, errors.New("indexer: Indexer.Sources is empty")
	}
	sc := ix.scope
	if sc == nil {
		var err error
		if sc, err = newScope(ix.Scope); err != nil {
			return nil, err
		}
	}
	if ix.Identity == nil {
		ix.Identity = &identity.Resolver{}
	}
	if ix.HTTP == nil {
		ix.HTTP = http.DefaultClient
	}
	if ix.Hosts == nil {
		ix.Hosts = safehttp.NewClient(safehttp.Config{Timeout: -1, MaxBody: -1})
	}
	if ix.Now == nil {
		ix.Now = time.Now
	}
	if ix.Log == nil {
		ix.Log = slog.New(slog.DiscardHandler)
	}
	if ix.Temp == nil {
		ix.Temp = car.TempDir("")
	}
	r := &run{
		Indexer: ix, checked: memo.New[syntax.DID, time.Time](10_000), swept: make(chan struct{}, 1),
		w:    &writer{sink: ix.Sink, queue: make(chan *pending), cache: newAccounts(20_000), now: ix.Now},
		jobs: jobs{list: make(map[syntax.DID]*job), wake: make(chan struct{}, 1)},
	}
	r.hosts = hosts{perHost: orDefault(ix.FetchesPerHost, 2), now: ix.Now, list: make(map[string]*host)}
	r.verifier = &commit.Verifier{Key: r.key, Now: ix.Now}
	r.scope.Store(sc)
	r.next.Store(sc)
	names := make(map[string]bool)
	for _, cfg := range ix.Sources {
		s, err := newSource(r, cfg)
		if err != nil {
			return nil, err
		}
		if names[s.name] {
			return nil, fmt.Errorf("indexer: two sources are named %s", s.name)
		}
		names[s.name] = true
		if err := s.load(ctx); err != nil {
			return nil, fmt.Errorf("indexer: the position of %s: %w", s.name, err)
		}
		r.sources = append(r.sources, s)
	}
	stored, err := ix.Sink.Position(ctx, scopeName)
	if err == nil && stored != sc.text {
		r.scopes = strings.Fields(stored)
		if stored == "" {
			r.scopes = []string{noScope}
		}
		r.swept <- struct{}{}
	}
	if err != nil {
		return nil, fmt.Errorf("indexer: the scope: %w", err)
	}
	ix.current = r // with the lock under which the scope was read: what SetScope says from now on is for it
	return r, nil
}

// key is the key of an account, for the verifier.
func (r *run) key(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
	if refresh {
		r.refetchDocument(did)
	}
	doc, err := r.resolve(ctx, did)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", commit.ErrNoKey, err)
	}
	key, err := doc.SigningKey()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", commit.ErrNoKey, err)
	}
	return key, nil
}

// resolve returns the document of a DID. Others go on meanwhile: whoever answers for a did:web can
// take as long as the resolver lets it.
func (r *run) resolve(ctx context.Context, did syntax.DID) (doc *identity.Document, err error) {
	r.lanes.withoutSlot(ctx, func() { doc, err = r.Identity.ResolveDID(ctx, did) })
	return doc, err
}

// suspectPause is the time between two requests for a document on suspicion.
const suspectPause = 10 * time.Second

// refetchDocument has the document of a DID fetched again, and returns true, unless that was done a
// moment ago: whoever can send wrong events must not be able to cause endless requests.
func (r *run) refetchDocument(did syntax.DID) bool {
	now := r.Now()
	if last, ok := r.checked.Get(did); ok && now.Sub(last) < suspectPause && !now.Before(last) {
		return false
	}
	r.checked.Put(did, now)
	r.Identity.Purge(syntax.AtIdentifier(did))
	return true
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// jitter is a time between d/2 and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// backoff is the time after some failures in a row, from first to most.
func backoff(tries int, first, most time.Duration) time.Duration {
	for range min(tries-1, 30) {
		if first *= 2; first >= most {
			break
		}
	}
	return jitter(min(first, most))
}

// signal puts an element into a channel of one, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
