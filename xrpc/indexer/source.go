package indexer

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Source is a stream of events. Exactly one of Host, Relay and Local is set.
type Source struct {
	// Host is the URL of a PDS, "https://pds.example.com". Only events of accounts that it hosts
	// are accepted.
	Host string
	// Relay is the URL of a relay, which passes on the events of other hosts.
	Relay string
	// Local is the store of a host or relay in the same process. Its Events is required.
	// Repositories are read from its Repos if they are there; otherwise from their hosts.
	Local *storage.Store
	// Name identifies a Local source in stored positions. Empty: "local".
	Name string
	// Trusted means that everything in a Local source is accepted without checks of signatures and
	// identities. It is for the store of a host, which has made its commits itself.
	Trusted bool
}

// source is a Source that is followed.
//
// Events are done in any order, but the position that is stored moves with the oldest open one:
//
//	events   7   8   9   10   11   12
//	                 │         │    └ newest: all up to it were read
//	                 └─────────┴───── open: not done yet
//	             └ done: stored. After a restart, 9 to 12 are read again.
type source struct {
	// These do not change. Those that are shared have locks of their own.
	*run
	Source
	name   string
	url    string        // empty: local
	relist chan struct{} // has an element when the accounts are to be listed
	slots  chan struct{} // has an element for each event that is under way
	room   *budget       // of the bytes of those events

	// Only the goroutine that reads the stream uses these.
	unreadable     int  // how often in a row the next frame could not be read
	reportedMissed bool // by this connection that events were missed

	// mu guards these. No other lock is taken while it is held.
	mu            sync.Mutex
	open          list.List // of *item: events that are not done yet, in their order
	done          int64     // all events up to this number are done
	newest        int64     // the number of the last event that was read
	newestAt      time.Time
	stored        string // the position as it is stored
	listed        bool   // all accounts that the source had when it was new are known
	mayHaveMissed bool   // events may have been missed: known accounts are to be compared with their hosts
	listRequests  int    // how often a list was asked for
	connected     bool
	err           error // why it is not connected
}

// item is an event that is under way.
type item struct {
	src     *source
	seq     int64
	message commit.Message
	size    int
	element *list.Element
}

// Limits on the events of a source that are being processed.
const (
	sourceItems = 4096
	sourceBytes = 32 << 20
)

func newSource(r *run, cfg Source) (*source, error) {
	s := &source{run: r, Source: cfg, relist: make(chan struct{}, 1), slots: make(chan struct{}, sourceItems), room: newBudget(sourceBytes)}
	n := 0
	for _, text := range []string{cfg.Host, cfg.Relay} {
		if text == "" {
			continue
		}
		n++
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, fmt.Errorf("indexer: source %q is not the URL of a server, as https://pds.example.com", text)
		}
		s.url = u.Scheme + "://" + u.Host
		s.name = s.url
	}
	if cfg.Local != nil {
		n++
		s.name = cmp.Or(cfg.Name, "local")
		if cfg.Local.Events == nil {
			return nil, errors.New("indexer: Source.Local needs Events")
		}
	}
	if n != 1 {
		return nil, errors.New("indexer: a Source is either a Host, a Relay or Local")
	}
	return s, nil
}

// load reads the stored position: the number, and whether accounts were listed.
func (s *source) load(ctx context.Context) (err error) {
	if s.stored, err = s.Sink.Position(ctx, s.name); err != nil || s.stored == "" {
		return err
	}
	seq, listed, _ := strings.Cut(s.stored, " ")
	if s.done, err = strconv.ParseInt(seq, 10, 64); err != nil || s.done < 0 {
		return fmt.Errorf("%.80q is no position", s.stored)
	}
	// What a stream would have said since it was followed without an event is in the list.
	s.listed = listed == "listed" && s.done > 0
	s.mayHaveMissed = !s.listed // the process may have ended before all were compared
	return nil
}

// position is what is to be stored.
func (s *source) position() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == 0 && !s.listed {
		return ""
	}
	text := strconv.FormatInt(s.done, 10)
	if s.listed {
		text += " listed"
	}
	return text
}

// positions are those that have changed since they were stored.
func (r *run) positions() map[string]string {
	var m map[string]string
	for _, s := range r.sources {
		at := s.position()
		s.mu.Lock()
		stored := s.stored
		s.mu.Unlock()
		if at != stored {
			if m == nil {
				m = make(map[string]string)
			}
			m[s.name] = at
		}
	}
	return m
}

// storePositions stores positions once a second. Those who come earlier again have no effect.
func (r *run) storePositions(ctx context.Context) {
	for sleep.For(ctx, time.Second) == nil {
		if err := r.storeNow(ctx, nil); err != nil {
			r.sinkFailed(err)
		}
	}
}

// storeNow stores the positions of sources that have changed, and others. One call after the other:
// a position must not be stored after one that was taken later.
func (r *run) storeNow(ctx context.Context, others map[string]string) error {
	r.storing.Lock()
	defer r.storing.Unlock()
	at := r.positions()
	if at == nil && others == nil {
		return nil
	}
	all := maps.Clone(others)
	if all == nil {
		all = at
	}
	maps.Copy(all, at)
	if err := r.w.submit(ctx, nil, all); err != nil {
		return err
	}
	for _, s := range r.sources {
		if text, ok := at[s.name]; ok {
			s.mu.Lock()
			s.stored = text
			s.mu.Unlock()
		}
	}
	return nil
}

// beginItem counts an event in. It waits while too many are under way.
func (s *source) beginItem(ctx context.Context, it *item) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.room.take(ctx, it.size); err != nil {
		<-s.slots
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	it.element = s.open.PushBack(it)
	s.newest, s.newestAt = it.seq, it.message.At()
	return nil
}

// endItem says that all effects of an event are stored, or that it has none.
func (s *source) endItem(it *item) {
	s.mu.Lock()
	first := s.open.Front() == it.element
	s.open.Remove(it.element)
	if first {
		if next := s.open.Front(); next != nil {
			s.done = next.Value.(*item).seq - 1
		} else {
			s.done = s.newest
		}
	}
	s.mu.Unlock()
	s.room.give(it.size)
	<-s.slots
}

// skipped says that an event without effect was read.
func (s *source) skipped(seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest = max(s.newest, seq); s.open.Len() == 0 {
		s.done = s.newest
	}
}

// follow reads the source until the context ends.
func (s *source) follow(ctx context.Context) {
	var listing sync.WaitGroup
	listing.Go(func() { s.listWhenAsked(ctx) })
	defer listing.Wait()
	for tries := 1; ctx.Err() == nil; tries++ {
		started := s.Now()
		var err error
		if s.url == "" {
			err = s.readLocal(ctx)
		} else {
			err = s.readStream(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		s.failed(err)
		if s.Now().Sub(started) > time.Minute {
			tries = 1
		}
		if sleep.For(ctx, backoff(tries, time.Second, time.Minute)) != nil {
			return
		}
	}
}

// failed notes that the stream broke.
func (s *source) failed(err error) {
	s.mu.Lock()
	s.connected, s.err = false, err
	s.mu.Unlock()
	s.Log.Warn("a source broke; it will be followed again", "source", s.name, "error", err)
}

// markConnected notes that the stream is there.
func (s *source) markConnected() {
	s.mu.Lock()
	first := !s.connected
	s.connected, s.err = true, nil
	ask := first && !s.listed
	s.mu.Unlock()
	if ask {
		signal(s.relist)
	}
}

// drain waits until all events that were read are done.
func (s *source) drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		n := s.open.Len()
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		if sleep.For(ctx, 20*time.Millisecond) != nil {
			return ctx.Err()
		}
	}
}

// readStream follows com.atproto.sync.subscribeRepos.
func (s *source) readStream(ctx context.Context) error {
	if err := s.drain(ctx); err != nil { // so that the position is that of what was read
		return err
	}
	s.reportedMissed = false
	c := stream.Consumer{URL: s.url + "/xrpc/" + api.SyncSubscribeReposNSID, HTTP: s.HTTP, Connected: s.markConnected}
	c.Retry = func(err error) error {
		if errors.Is(err, stream.ErrFrameSize) {
			return err
		}
		s.failed(err)
		s.reportedMissed = false
		if c.Cursor == nil {
			s.startFromNext() // it has said nothing yet, and what it says before it is connected again is missed
		}
		return nil
	}
	s.mu.Lock()
	seq := s.done
	s.mu.Unlock()
	if seq > 0 {
		c.Cursor = &seq
	} else {
		s.startFromNext()
	}
	for frame, err := range c.Frames(ctx) {
		if err == nil {
			s.markConnected() // where nothing else says so
			s.unreadable = 0
			err = s.frame(ctx, frame)
		}
		if errors.Is(err, stream.ErrFrame) || errors.Is(err, stream.ErrFrameSize) {
			if s.unreadable++; s.unreadable >= mostUnreadable { // it will not become readable
				s.unreadable = 0
				return errors.Join(err, s.restart(ctx))
			}
			return err
		}
		if serr := (*stream.Error)(nil); errors.As(err, &serr) && serr.Name == stream.ErrFutureCursor.Name || errors.Is(err, stream.ErrSequence) {
			// Its numbers are not those of before: it was restored, or is another server.
			return errors.Join(err, s.restart(ctx))
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// mostUnreadable is how often in a row a frame must be unreadable before it is passed over.
const mostUnreadable = 3

// startFromNext says that the stream is followed from what comes next. When it is connected, the
// accounts are listed, and those that are known are compared with their hosts.
func (s *source) startFromNext() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markIncomplete(true)
	s.connected = false
}

// markIncomplete notes that accounts of the source may be unknown. If unsure, events of known
// accounts may have been missed too. The stored position says the same until all accounts are
// listed and compared. The caller holds s.mu.
func (s *source) markIncomplete(unsure bool) {
	s.listed, s.mayHaveMissed = false, s.mayHaveMissed || unsure
	s.listRequests++
}

// missed says that the source does not have events any more that were not read.
func (s *source) missed() {
	s.Log.Warn("events were missed: accounts are compared with their hosts", "source", s.name)
	s.mu.Lock()
	s.markIncomplete(true)
	s.mu.Unlock()
	signal(s.relist)
}

// restart forgets the position, so that all is compared.
func (s *source) restart(ctx context.Context) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.done, s.newest = 0, 0
	s.mu.Unlock()
	s.startFromNext()
	return persist(ctx, s.sinkFailed, func() error { return s.storeNow(ctx, nil) })
}

// frame takes a frame of the stream.
func (s *source) frame(ctx context.Context, f stream.Frame) error {
	if f.Kind == commit.KindInfo {
		var info struct {
			Name string `cbor:"name"`
		}
		if data.Unmarshal(f.Payload, &info) == nil && info.Name == stream.OutdatedCursor && !s.reportedMissed {
			s.reportedMissed = true
			s.missed()
		}
		return nil
	}
	if f.Seq <= 0 {
		return nil
	}
	return s.event(ctx, f.Seq, f.Kind, slices.Clone(f.Payload))
}

// event takes an event, whose payload is its own.
func (s *source) event(ctx context.Context, seq int64, kind string, payload []byte) error {
	s.count.events.Add(1)
	m, err := commit.Decode(kind, payload)
	if err != nil {
		if !errors.Is(err, commit.ErrUnknownKind) {
			s.count.malformed.Add(1)
			s.Log.Warn("an event is malformed", "source", s.name, "seq", seq, "error", err)
			m = accountOf(payload, err)
		}
		if m == nil {
			s.skipped(seq)
			return nil
		}
	}
	if _, err := syntax.ParseDID(string(m.About())); err != nil {
		s.count.malformed.Add(1)
		s.skipped(seq)
		return nil
	}
	it := &item{src: s, seq: seq, message: m, size: len(payload) + 512}
	if err := s.beginItem(ctx, it); err != nil {
		return err
	}
	if !s.lanes.add(m.About(), task{item: it}) {
		s.overflow(ctx, it)
	}
	return nil
}

// accountOf returns an event of the account that a payload names which cannot be decoded; nil if it
// names none.
func accountOf(payload []byte, err error) commit.Message {
	var about struct {
		DID  string `cbor:"did"`
		Repo string `cbor:"repo"`
	}
	data.Unmarshal(payload, &about) // as far as that works
	did, bad := syntax.ParseDID(cmp.Or(about.DID, about.Repo))
	if bad != nil {
		return nil
	}
	return &unreadable{Sync: &commit.Sync{DID: did}, err: err}
}

// overflow drops an event of an account that has too many waiting, and has the account read
// instead.
func (s *source) overflow(ctx context.Context, it *item) {
	e, ok := it.message.(*commit.Event)
	signaled := ok && s.run.scope.Load().signals(e.Ops)
	it.message = &commit.Sync{DID: it.message.About()} // the rest is not needed any more
	s.lanes.add(it.message.About(), task{do: func() { s.readAfterDrop(ctx, it, signaled) }})
}

// readLocal follows a log in the process.
func (s *source) readLocal(ctx context.Context) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	oldest, newest, err := s.Local.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	at := s.done
	s.mu.Unlock()
	switch {
	case at == 0: // what was before is in the list
		s.startFromNext()
		at = newest
		s.skipped(newest)
	case at > newest:
		if err := s.restart(ctx); err != nil {
			return err
		}
		at = newest
		s.skipped(newest)
	case at < oldest-1:
		s.missed()
	}
	s.markConnected()
	for {
		before := at
		for ev, err := range s.Local.Events.Since(ctx, at) {
			if err != nil {
				return err
			}
			if err := s.event(ctx, ev.Seq, ev.Kind, ev.Payload); err != nil {
				return err
			}
			if at = ev.Seq; at-before > localPage {
				break
			}
		}
		// What was not trimmed now was not trimmed before either.
		oldest, newest, err := s.Local.Events.Bounds(ctx)
		if err != nil {
			return err
		}
		if before < oldest-1 && before < newest {
			s.missed()
			at = max(at, oldest-1)
		}
		if at == before {
			if err := s.Local.Events.Wait(ctx, at); err != nil {
				return err
			}
		}
	}
}

// localPage is how many numbers of a local log are read between two looks at its bounds.
const localPage = 1000
