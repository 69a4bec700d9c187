package serviceauth

import (
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

// Replays remembers the tokens that were used, until they expire. Its zero value is ready to use.
// It is safe for concurrent use.
type Replays struct {
	// Max bounds how many are remembered, at some 150 bytes each. When there is no room, tokens are refused
	// rather than forgotten. 0: 100,000.
	Max int

	mu   sync.Mutex
	seen map[string]time.Time // expiry
	next time.Time            // when to look for expired ones again
}

// use notes the use of a token.
func (x *Replays) use(id string, expires, now time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	most := x.Max
	if most == 0 {
		most = 100_000
	}
	if x.seen == nil {
		x.seen = make(map[string]time.Time)
	}
	if until, ok := x.seen[id]; ok && !now.After(until) {
		return fail("JwtReplayed", "jwt was used before")
	}
	// Looking at all costs little if it is done rarely.
	if len(x.seen) >= most/2 && !now.Before(x.next) {
		for id, until := range x.seen {
			if now.After(until) {
				delete(x.seen, id)
			}
		}
		x.next = now.Add(time.Second)
	}
	if len(x.seen) >= most {
		return &xrpc.Error{Status: http.StatusServiceUnavailable, Message: "Too many requests with service tokens"}
	}
	x.seen[id] = expires
	return nil
}
