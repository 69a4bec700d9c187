//go:build js

package cloudflare

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall/js"
	"time"

	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Sockets serves an event log to subscribers over hibernating WebSockets, instead of a
// stream.Outbox. It is an http.Handler for com.atproto.sync.subscribeRepos, with the same
// parameter, frames and errors. The platform stores the position of a subscriber with its socket.
// So a socket outlives the program: the next program continues where the last one stopped.
//
// A socket accepts all data, and does not report how much of it the peer has read. So Sockets
// estimates the unread bytes of each socket: what was sent, minus a kilobyte for every second. A
// socket with more than Unread, or the one with the most if all together have more than
// TotalUnread, is closed with the frame ConsumerTooSlow. If that peer does read, it gets all frames
// before that one, and can reconnect with its cursor.
//
// A subscriber needs no goroutine. While no subscriber is behind, there are no timers, and the
// object can be evicted.
type Sockets struct {
	host *Host
	cfg  SocketsConfig

	load, push, closeSocket js.Value

	mu      sync.Mutex
	all     subscribers
	running bool
	kick    context.CancelFunc // ends the wait of run
}

// NewSockets returns the sockets of the object, including those that an earlier program has
// accepted. There can be only one Sockets.
func (h *Host) NewSockets(cfg SocketsConfig) *Sockets {
	if cfg.Events == nil {
		panic("cloudflare: SocketsConfig.Events is missing")
	}
	cfg.defaults()
	s := &Sockets{
		host: h, cfg: cfg, all: subscribers{cfg: cfg, byID: make(map[int64]*subscriber)},
		load: h.object.Get("load"), push: h.object.Get("push"), closeSocket: h.object.Get("close"),
	}
	for line := range strings.SplitSeq(h.object.Call("sockets").String(), "\n") {
		id, note, _ := strings.Cut(line, " ")
		if sub, err := parseSubscriber(id, note); err == nil {
			s.all.add(sub)
		} else if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			s.close(n, websocketInternalError, "unknown subscription")
		}
	}
	h.mu.Lock()
	h.sockets = s
	h.mu.Unlock()
	s.wake()
	return s
}

// Codes with which sockets are closed (RFC 6455, section 7.4.1).
const (
	websocketPolicyViolation = 1008
	websocketInternalError   = 1011
)

// ServeHTTP accepts a WebSocket if the platform sent the request to this object. The stream starts
// at the query parameter "cursor", or with the next event if there is none.
func (s *Sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cursor := int64(-1)
	if q := r.URL.Query().Get("cursor"); q != "" {
		n, err := strconv.ParseInt(q, 10, 64)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, "InvalidRequest", "cursor must be a non-negative integer")
			return
		}
		cursor = n
	}
	ex, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if ex == nil || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		refuse(w, http.StatusUpgradeRequired, "InvalidRequest", "a WebSocket connection is needed")
		return
	}
	_, newest, err := s.cfg.Events.Bounds(r.Context())
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalServerError", "the event log cannot be read")
		return
	}
	sub := &subscriber{position: newest, since: time.Now(), network: networkOf(r)}
	if cursor >= 0 {
		sub.position = cursor
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.all.room(sub.network) {
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusTooManyRequests, "RateLimitExceeded", "too many subscribers")
		return
	}
	s.all.add(sub)
	if err := ex.upgrade(sub.id, sub.note()); err != nil {
		s.all.remove(sub.id)
		refuse(w, http.StatusInternalServerError, "InternalServerError", "the socket cannot be accepted")
		return
	}
	if sub.position > newest {
		s.end(sub, stream.ErrFutureCursor)
		return
	}
	s.wakeLocked()
}

// refuse answers with an error in the envelope of XRPC.
func refuse(w http.ResponseWriter, status int, name, message string) {
	body, _ := json.Marshal(map[string]string{"error": name, "message": message})
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Len returns the number of open sockets.
func (s *Sockets) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all.byID)
}

// closed is called when a socket was closed.
func (h *Host) closed(_ js.Value, args []js.Value) any {
	h.mu.Lock()
	s := h.sockets
	h.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all.remove(int64(args[0].Float()))
		if len(s.all.byID) == 0 && s.kick != nil {
			s.kick() // run ends
		}
	}
	return nil
}

func (s *Sockets) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

// wakeLocked lets run look at all subscribers.
func (s *Sockets) wakeLocked() {
	if s.running {
		if s.kick != nil {
			s.kick()
		}
	} else if len(s.all.byID) > 0 {
		s.running = true
		go s.run()
	}
}

// run sends frames as long as there is a subscriber. At rest it waits for an event.
func (s *Sockets) run() {
	for {
		s.mu.Lock()
		newest, delay, err := s.step()
		if err != nil {
			for _, sub := range s.all.byID {
				s.close(sub.id, websocketInternalError, "the event log cannot be read")
			}
		}
		if len(s.all.byID) == 0 {
			s.running, s.kick = false, nil
			s.mu.Unlock()
			if err != nil && s.cfg.Failed != nil {
				s.cfg.Failed(err)
			}
			if s.cfg.Empty != nil {
				s.cfg.Empty()
			}
			return
		}
		ctx, kick := context.WithCancel(context.Background())
		s.kick = kick
		s.mu.Unlock()
		var timer *time.Timer
		if delay > 0 {
			timer = time.AfterFunc(delay, kick)
		}
		if err := s.cfg.Events.Wait(ctx, newest); err != nil && ctx.Err() == nil && timer == nil {
			timer = time.AfterFunc(time.Second, kick) // the next step says what is wrong
			<-ctx.Done()
		}
		if timer != nil {
			timer.Stop()
		}
		kick()
	}
}

// step sends every subscriber what is due. It returns the number of the newest event that was seen,
// and how long to wait if somebody is behind. The caller holds mu.
func (s *Sockets) step() (newest int64, delay time.Duration, err error) {
	ctx := context.Background()
	now := time.Now()
	groups, delay := s.all.due(now)
	for _, g := range groups {
		page, err := readPage(ctx, s.cfg.Events, g.position, g.live, pageFrames(s.cfg.Rate))
		if err != nil {
			return 0, 0, err
		}
		if page.bytes > 0 {
			s.loadFrames(page.packed)
		}
		for _, sub := range g.members {
			sub.sent(now, page, s.cfg.Rate)
			if page.bytes > 0 && !s.push.Invoke(float64(sub.id), sub.note()).Bool() {
				s.all.remove(sub.id)
			}
		}
		if page.more {
			delay = s.all.sooner(delay, g.members, now)
		}
	}
	for sub := s.all.tooSlow(now); sub != nil; sub = s.all.tooSlow(now) {
		s.end(sub, stream.ErrConsumerTooSlow)
	}
	return s.all.newest(), delay, nil
}

// newest is the greatest position.
func (s *subscribers) newest() (n int64) {
	for _, sub := range s.byID {
		n = max(n, sub.position)
	}
	return n
}

// loadFrames passes on frames that are pushed next.
func (s *Sockets) loadFrames(packed []byte) {
	s.host.transfer.Lock()
	defer s.host.transfer.Unlock()
	s.host.put(packed)
	s.load.Invoke(len(packed))
}

// end closes a socket with an error frame.
func (s *Sockets) end(sub *subscriber, reason *stream.Error) {
	s.loadFrames(appendFrame(nil, reason.Encode()))
	s.push.Invoke(float64(sub.id), sub.note())
	s.close(sub.id, websocketPolicyViolation, reason.Name)
}

func (s *Sockets) close(id int64, code int, reason string) {
	s.all.remove(id)
	_, _ = try(func() js.Value { return s.closeSocket.Invoke(float64(id), code, reason) }) // it may be gone
}

// networkOf names the network of a request's client.
func networkOf(r *http.Request) string {
	if n := limit.From(r).Network; n.IsValid() {
		return n.String()
	}
	return "unknown"
}
