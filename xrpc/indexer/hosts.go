package indexer

import (
	"errors"
	"sync"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

// hosts bounds what is asked of each host, and leaves those alone that fail or ask for it.
type hosts struct {
	perHost int
	now     func() time.Time

	// mu guards these, and the fields of each host. No other lock is taken while it is held.
	mu   sync.Mutex
	list map[string]*host
}

type host struct {
	running int       // requests under way
	fails   int       // in a row
	until   time.Time // it is not asked before
}

// maxHostPause bounds how long a host is left alone.
const maxHostPause = 10 * time.Minute

// maxAsked bounds how long a host is left alone because it asks for that.
const maxAsked = time.Hour

func (h *hosts) blocked(x *host) bool { return x.running >= h.perHost || h.now().Before(x.until) }

// open reports whether a host may be asked now, and whether it failed when it was asked last.
func (h *hosts) open(name string) (open, failing bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.list[name]
	if x == nil {
		return true, false
	}
	return !h.blocked(x), x.fails > 0
}

// closed are the hosts that may not be asked now. If failing is false, those that failed when they
// were asked last are among them.
func (h *hosts) closed(failing bool) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, x := range h.list {
		switch {
		case h.blocked(x), x.fails > 0 && !failing:
			if len(list) < maxClosed {
				list = append(list, name)
			}
		case x.running == 0 && x.fails == 0:
			delete(h.list, name)
		case x.running == 0 && h.now().Sub(x.until) > time.Hour:
			delete(h.list, name)
		}
	}
	return list
}

// maxClosed bounds the list that a sink is given.
const maxClosed = 1000

// acquire takes one of a host's places.
func (h *hosts) acquire(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.list[name]
	if x == nil {
		x = &host{}
		h.list[name] = x
	}
	if h.blocked(x) {
		return false
	}
	x.running++
	return true
}

// release gives the place back. If the host has failed, it is left alone for a while.
func (h *hosts) release(name string, failed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.list[name]
	x.running--
	if !failed {
		x.fails = 0
		return
	}
	x.fails++
	pause := backoff(x.fails, time.Second, maxHostPause)
	var xerr *xrpc.Error
	if errors.As(err, &xerr) {
		if asked := min(xerr.RetryAfter(h.now()), maxAsked); asked > 0 {
			pause = asked + jitter(asked/10+time.Second)
		}
	}
	if until := h.now().Add(pause); until.After(x.until) {
		x.until = until
	}
}
