package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// When a host counts as offline, and the delays between attempts to connect.
const (
	offlineAfter        = 10
	dialLeast, dialMost = time.Second, 24 * time.Hour
	wakeLeast           = 2 * time.Second // from one to the next, if somebody asks for it
	settledAfter        = time.Minute     // a connection that lasted so long was a good one
)

const (
	serverName = "atproto-relay (pdskit)"
	pathHeader = "Atproto-Relay-Path" // names the relays that a stream has come through
	maxPath    = 100                  // relays in it
)

// run follows the host until the context ends.
func (h *host) run(ctx context.Context) {
	h.queue.start(ctx)
	h.startComparing() // if it was asked for before
	for ctx.Err() == nil {
		began := h.r.Now()
		inner, leave := context.WithCancel(ctx)
		h.mu.Lock()
		h.endConnection = leave
		anew := h.fromOldest
		h.fromOldest = false
		h.mu.Unlock()
		if anew {
			h.queue.restart(0) // nobody reads the stream now
		}
		heard, err := h.follow(inner)
		leave()
		if ctx.Err() != nil {
			return
		}
		wait := h.failed(err, heard || h.r.Now().Sub(began) > settledAfter)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-h.wake:
			// Whoever asks for the crawl of a host does not make the relay knock without pause.
			sleep.For(ctx, wakeLeast-h.r.Now().Sub(began))
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// failed notes that the host is no longer read, and returns when to try again.
func (h *host) failed(err error, good bool) (wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.Connected, h.slow = time.Time{}, false
	if good {
		h.seen.Failures = 0
	}
	wait = backoff(h.seen.Failures, dialLeast, dialMost)
	if h.retrySoon { // once: if that fails too, the time goes on to grow
		wait, h.retrySoon = dialLeast, false
	}
	wait = wait/2 + rand.N(wait/2+1)
	h.seen.Failures++
	h.seen.Next = h.r.Now().Add(wait)
	if err != nil {
		h.seen.Error = errorText(err)
	}
	return wait
}

// connected notes that the host is read.
func (h *host) connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.Connected, h.seen.Next = h.r.Now(), time.Time{}
}

// works notes that the host has said something that could be read.
func (h *host) works() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.Failures, h.seen.Error, h.refused = 0, "", 0
}

// retry has the host connected to at once.
func (h *host) retry() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// follow reads the host until it cannot be read on. It reports whether anything came.
func (h *host) follow(ctx context.Context) (heard bool, err error) {
	if store := h.store.Load(); store != nil {
		return h.followStore(ctx, store.Events)
	}
	_, cursor := h.queue.position()
	client := *h.r.HTTP
	client.Transport = &handshake{base: client.Transport, h: h}
	c := stream.Consumer{
		URL: h.r.url(h.name) + api.SyncSubscribeReposNSID, Cursor: &cursor, HTTP: &client, MaxFrame: maxFrame, Large: h.r.large.acquire,
		Retry: func(err error) error { return err },
	}
	if h.skipsAhead() {
		c.Cursor = nil
	}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			return heard, h.streamEnded(ctx, err)
		}
		if !heard {
			h.works()
		}
		heard = true
		if err := h.frameInTime(ctx, f); err != nil {
			return heard, err
		}
	}
	return heard, nil
}

// largeWait is how long a large frame may wait to be taken in. After it the connection ends, and
// the frame is read again later: meanwhile another host may need the memory.
const largeWait = 10 * time.Second

// errNoRoom: there was no room for a large message.
var errNoRoom = errors.New("relay: a large message is read again later, for want of memory")

// frameInTime is frame, for which a large one may not wait long.
func (h *host) frameInTime(ctx context.Context, f stream.Frame) error {
	if len(f.Payload) < stream.LargeFrame {
		return h.frame(ctx, f)
	}
	inner, cancel := context.WithTimeoutCause(ctx, largeWait, errNoRoom)
	defer cancel()
	err := h.frame(inner, f)
	if err != nil && ctx.Err() == nil && inner.Err() != nil {
		return errNoRoom
	}
	return err
}

// frame takes in one frame.
func (h *host) frame(ctx context.Context, f stream.Frame) error {
	switch f.Kind {
	case commit.KindCommit, commit.KindSync, commit.KindIdentity, commit.KindAccount:
	case commit.KindInfo:
		if err := h.pace(ctx); err != nil {
			return err
		}
		if infoName(f.Payload) == stream.OutdatedCursor {
			return h.outdated(ctx)
		}
		return nil
	default:
		return h.unread(ctx, f.Seq, "", RuleKind)
	}
	payload, did, err := strip(f.Kind, f.Payload)
	if err != nil {
		return h.unread(ctx, f.Seq, f.Kind, RuleMalformed)
	}
	return h.admit(ctx, did, &item{seq: f.Seq, kind: f.Kind, payload: payload})
}

// unread counts a message that is about no account that could be known. It takes its part of the
// rate.
func (h *host) unread(ctx context.Context, seq int64, kind string, rule Rule) error {
	if err := h.pace(ctx); err != nil {
		return err
	}
	h.count(&item{kind: kind, at: h.r.Now()}, dropped(rule))
	h.queue.skip(seq)
	return nil
}

// infoName returns the name in an #info message.
func infoName(payload []byte) (name string) {
	r := cbor.NewReader(payload)
	n, err := r.Map()
	for range n {
		if err != nil {
			return ""
		}
		var key string
		if key, err = r.Text(); err == nil && key == "name" && r.Major() == cbor.MajorText {
			name, err = r.Text()
		} else if err == nil {
			err = r.Skip()
		}
	}
	return name
}

// followStore reads the log of a local host.
func (h *host) followStore(ctx context.Context, events storage.Events) (heard bool, err error) {
	for {
		_, at := h.queue.position()
		oldest, newest, err := events.Bounds(ctx)
		if err != nil {
			return heard, err
		}
		h.connected()
		if at > newest {
			return heard, h.streamEnded(ctx, stream.ErrFutureCursor)
		}
		if at+1 < oldest {
			if err := h.outdated(ctx); err != nil {
				return heard, err
			}
		}
		for e, err := range events.Since(ctx, at) {
			if err != nil {
				return heard, err
			}
			if !heard {
				h.works()
			}
			heard = true
			switch e.Kind {
			case commit.KindCommit, commit.KindSync, commit.KindIdentity, commit.KindAccount:
				err = h.admit(ctx, e.DID, &item{seq: e.Seq, kind: e.Kind, payload: e.Payload})
			default:
				err = h.unread(ctx, e.Seq, "", RuleKind)
			}
			if err != nil {
				return heard, err
			}
			at = e.Seq
		}
		h.mu.Lock()
		h.slow = false
		h.mu.Unlock()
		if err := events.Wait(ctx, at); err != nil {
			return heard, err
		}
	}
}

// handshake sees the answers to requests for a connection.
type handshake struct {
	base http.RoundTripper
	h    *host
}

// RoundTrip implements http.RoundTripper.
func (s *handshake) RoundTrip(req *http.Request) (*http.Response, error) {
	base := s.base
	if base == nil {
		base = http.DefaultTransport
	}
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", serverName)
	resp, err := base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := s.h.r.mayFollow(s.h, resp.Header); err != nil {
		resp.Body.Close()
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		s.h.connected()
	}
	return resp, nil
}

// mayFollow checks that what answers is no relay, unless it was added as one, and that it does not
// pass on what this relay says.
func (r *Relay) mayFollow(h *host, header http.Header) error {
	path := relayPath(header)
	isRelay := len(path) > 0 || strings.Contains(strings.ToLower(header.Get("Server")), "atproto-relay")
	h.mu.Lock()
	added := h.row.Relay
	h.mu.Unlock()
	switch {
	case slices.Contains(path, r.id):
		return fmt.Errorf("%w, and follows this one", ErrLoop)
	case isRelay && !added:
		return ErrLoop
	}
	if added {
		r.mu.Lock()
		defer r.mu.Unlock()
		h.path = path
	}
	return nil
}

// relayPath reads the header that names relays.
func relayPath(header http.Header) (path []string) {
	for _, name := range strings.Split(header.Get(pathHeader), ",") {
		if name = strings.TrimSpace(name); name != "" && len(name) <= 64 && len(path) < maxPath {
			path = append(path, name)
		}
	}
	return path
}

// path names this relay and those that it follows, directly or not.
func (r *Relay) path() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []string{r.id}
	for _, h := range r.hosts {
		for _, id := range h.path {
			if len(list) < maxPath && !slices.Contains(list, id) {
				list = append(list, id)
			}
		}
	}
	return strings.Join(list, ",")
}

// skipsAhead reports, once, that the next connection is to begin with what comes next: what there
// is cannot be read.
func (h *host) skipsAhead() (skip bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	skip, h.fromNewest = h.fromNewest, false
	return skip
}

// streamEnded deals with the end of a stream. One that the host refuses to go on with, or that
// cannot be read, ends in the same way each time: then all repositories are compared with the
// host's own word, and the stream begins anew.
func (h *host) streamEnded(ctx context.Context, err error) error {
	future := errors.Is(err, stream.ErrFutureCursor)
	unreadable := errors.Is(err, stream.ErrFrame) || errors.Is(err, stream.ErrSequence) || errors.Is(err, stream.ErrFrameSize)
	if !future && !unreadable || ctx.Err() != nil {
		return err
	}
	h.mu.Lock()
	h.refused++
	enough := h.r.ResetAfter > 0 && h.refused >= h.r.ResetAfter
	if enough {
		h.refused, h.retrySoon = 0, true
		h.fromNewest = unreadable
	}
	h.mu.Unlock()
	h.count(&item{kind: "", at: h.r.Now()}, dropped(RuleStuck))
	if !enough {
		return err
	}
	h.r.Logger.Warn("relay: a stream begins anew", "host", h.name, "err", errorText(err))
	if err := h.compare(ctx); err != nil {
		return err
	}
	if future {
		h.queue.restart(0)
	}
	return err
}

// outdated notes that the host no longer has messages that were not read.
func (h *host) outdated(ctx context.Context) error {
	h.count(&item{kind: commit.KindInfo, at: h.r.Now()}, dropped(RuleOutdated))
	return h.compare(ctx)
}
