package serviceauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

// Replays remembers used tokens until they expire. The zero value is ready to use. It is safe for
// concurrent use.
//
// The owner of a DID can make any number of valid tokens. So one issuer may use a tenth of the
// memory; its further tokens are refused with status 429. When all issuers together have used up
// the memory, the tokens that expire first are forgotten, so nobody can shut out others.
type Replays struct {
	// Max bounds the number of remembered tokens, at some 150 bytes each, whatever the length of
	// their IDs and issuers. 0: 100,000.
	Max int
	// KV, if not nil, remembers tokens for all nodes, in keys that begin with Prefix. A token that
	// is not in memory then costs one write, and is refused if that fails.
	KV     storage.KV
	Prefix string

	mu      sync.Mutex
	minutes map[int64]map[use]bool // by the minute in which they expire
	issuers map[digest]int
	n       int
}

// digest stands for a string that a stranger has chosen, which may be long.
type digest [16]byte

func digestOf(s string) digest {
	sum := sha256.Sum256([]byte(s))
	return digest(sum[:16])
}

// use is one use of a token.
type use struct {
	issuer digest
	id     digest
}

// useOf returns the use of a token by an issuer. Without an ID, the signed text stands for it.
func useOf(issuer syntax.DID, id string, signed []byte) use {
	if id == "" {
		return use{digestOf(string(issuer)), digestOf("text:" + string(signed))}
	}
	return use{digestOf(string(issuer)), digestOf("id:" + id)}
}

// use notes the use of a token.
func (x *Replays) use(ctx context.Context, u use, expires, now time.Time) error {
	if err := x.useHere(u, expires, now); err != nil || x.KV == nil {
		return err
	}
	key := x.Prefix + base64.RawURLEncoding.EncodeToString(append(u.issuer[:], u.id[:]...))
	return x.KV.Write(ctx, func(tx storage.KVTx) error {
		switch _, err := tx.Get(ctx, key); {
		case err == nil:
			return errReplayed()
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		// The store's clock may be ahead.
		return tx.Set(ctx, key, []byte{1}, expires.Add(time.Minute))
	})
}

func errReplayed() error { return fail("JwtReplayed", "jwt was used before") }

// useHere notes it in memory.
func (x *Replays) useHere(u use, expires, now time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	most := x.Max
	if most == 0 {
		most = 100_000
	}
	if x.minutes == nil {
		x.minutes, x.issuers = make(map[int64]map[use]bool), make(map[digest]int)
	}
	// Tokens live an hour at most, so there are few of these.
	for minute, uses := range x.minutes {
		switch {
		case minute < minuteOf(now):
			x.forget(minute)
		case uses[u]:
			return errReplayed()
		}
	}
	if x.issuers[u.issuer] >= max(most/10, 1) {
		return &xrpc.Error{Status: http.StatusTooManyRequests, Message: "Too many service tokens of one issuer"}
	}
	if x.n >= most {
		first := minuteOf(expires)
		for minute := range x.minutes {
			first = min(first, minute)
		}
		x.forget(first)
	}
	minute := minuteOf(expires)
	if x.minutes[minute] == nil {
		x.minutes[minute] = make(map[use]bool)
	}
	x.minutes[minute][u] = true
	x.issuers[u.issuer]++
	x.n++
	return nil
}

// forget drops the tokens that expire in a minute.
func (x *Replays) forget(minute int64) {
	for u := range x.minutes[minute] {
		if x.issuers[u.issuer]--; x.issuers[u.issuer] == 0 {
			delete(x.issuers, u.issuer)
		}
		x.n--
	}
	delete(x.minutes, minute)
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }
