package client

import (
	"container/list"
	"net/http"
	"sync"
	"time"
)

const (
	maxNonces = 1000
	maxNonce  = 512 // bytes
)

// nonces remembers the last DPoP nonce of each origin. The least recently used leave first.
type nonces struct {
	mu     sync.Mutex
	all    map[string]*list.Element // of *nonce, by origin
	recent list.List
}

type nonce struct {
	origin, value string
	at            time.Time
}

// get returns the last nonce of an origin and when it came; empty: there is none.
func (n *nonces) get(origin string) (value string, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.all[origin]
	if e == nil {
		return "", at
	}
	n.recent.MoveToFront(e)
	x := e.Value.(*nonce)
	return x.value, x.at
}

// keep remembers the nonce of an answer, and returns it. It is empty if the answer has none that is
// well-formed.
func (n *nonces) keep(origin string, h http.Header, now time.Time) string {
	values := h.Values("DPoP-Nonce")
	if len(values) != 1 || !wellFormed(values[0], maxNonce) {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.all[origin]; e != nil {
		*e.Value.(*nonce) = nonce{origin, values[0], now}
		n.recent.MoveToFront(e)
		return values[0]
	}
	if n.all == nil {
		n.all = make(map[string]*list.Element)
	}
	n.all[origin] = n.recent.PushFront(&nonce{origin, values[0], now})
	for n.recent.Len() > maxNonces {
		last := n.recent.Back()
		delete(n.all, n.recent.Remove(last).(*nonce).origin)
	}
	return values[0]
}

// wellFormed reports whether a text is one of visible ASCII characters, at least one and at most
// max. Tokens and nonces are such texts.
func wellFormed(s string, max int) bool {
	if s == "" || len(s) > max {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
