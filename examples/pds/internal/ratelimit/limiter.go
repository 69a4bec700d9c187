// Package ratelimit bounds how often clients may call the server's methods, with
// the allowances of the official server.
//
// A bucket counts by address or by account, in windows of fixed length. A request that is refused
// takes nothing. Counting an IPv6 address means counting its /64 network, since whoever has one
// address has all of those. Memory is bounded: a bucket keeps a fixed number of keys as 64-bit
// hashes, and forgets those that used least.
//
// Counters are in memory, so they start anew with the process.
//
// # Guessing
//
// Passwords are counted by the account that they are tried for, whatever name it was called by
// and whatever method was called: 30 tries in five minutes and 300 in a day from one network. So
// a stranger does not lock out the owner, who is elsewhere. Wrong ones are also counted from all
// networks together, 300 in an hour and 3000 in a day, against an attack from many. That limit
// leaves out networks from which the account's password was right before. It concerns new logins
// only: sessions go on.
package ratelimit

import (
	"context"
	"crypto/subtle"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Config configures a Limiter. The zero value works.
type Config struct {
	// BypassKey, if not empty, lets a request pass that has it in its header
	// X-Ratelimit-Bypass.
	BypassKey string
	// Bypass are networks whose requests pass.
	Bypass []netip.Prefix
	// Moving, if not nil, reports whether an account is moving to this server. It may then
	// upload as many blobs as it has.
	Moving func(ctx context.Context, account string) bool
	// MaxKeys bounds the keys of each bucket, at some 100 bytes a key. 0: 65,536.
	MaxKeys int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Limiter decides which requests go too far. Its methods are for the fields of an
// xrpc.Server of the same names. A nil Limiter lets everything pass. It is safe for
// concurrent use.
type Limiter struct {
	cfg     Config
	seed    maphash.Seed
	all     *bucket
	moving  *bucket // uploads of accounts that move here
	writes  *bucket // of records, by account
	methods map[string]use
	// tries counts passwords by account and network, wrong those that were not right by account,
	// and right has the networks of each account from which one was.
	tries, wrong, right *bucket
}

// use is how a method uses a bucket.
type use struct {
	bucket *bucket
	by     by
	points int
}

// by is what a bucket counts by.
type by int

const (
	byAddress by = iota
	byAccount    // and the method is not called without one
	byLogin      // by the method itself, which calls Password
	byWrite      // by the method itself, which calls Writes
)

// getRepo is the one method outside of the bucket for all: it has a larger one of its own.
const getRepo = "com.atproto.sync.getRepo"

const uploadBlob = "com.atproto.repo.uploadBlob"

// New returns a limiter.
func New(cfg Config) *Limiter {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxKeys <= 0 {
		cfg.MaxKeys = 1 << 16
	}
	const day = 24 * time.Hour
	bucketOf := func(w ...window) *bucket { return &bucket{windows: w, max: cfg.MaxKeys} }
	l := &Limiter{cfg: cfg, seed: maphash.MakeSeed(), methods: make(map[string]use)}
	l.all = bucketOf(window{3000, 5 * time.Minute})
	l.methods[getRepo] = use{bucketOf(window{6000, 5 * time.Minute}), byAddress, 1}

	server := func(name string, by by, w ...window) {
		l.methods["com.atproto.server."+name] = use{bucketOf(w...), by, 1}
	}
	server("createAccount", byAddress, window{100, 5 * time.Minute})
	l.tries = bucketOf(window{30, 5 * time.Minute}, window{300, day})
	l.wrong = bucketOf(window{300, time.Hour}, window{3000, day})
	l.right = bucketOf(window{1, 30 * day})
	server("createSession", byLogin)
	server("deleteAccount", byAddress, window{50, 5 * time.Minute})
	server("resetPassword", byAddress, window{50, 5 * time.Minute})
	server("requestPasswordReset", byAddress, window{15, time.Hour}, window{50, day})
	// Not limited by the official server, but it tells whether somebody has an address.
	server("updateEmail", byAccount, window{15, time.Hour}, window{50, day})
	for _, name := range []string{"requestAccountDelete", "requestEmailConfirmation", "requestEmailUpdate"} {
		server(name, byAccount, window{5, time.Hour}, window{15, day})
	}
	identity := func(name string, w ...window) {
		l.methods["com.atproto.identity."+name] = use{bucketOf(w...), byAccount, 1}
	}
	identity("updateHandle", window{10, 5 * time.Minute}, window{50, day})
	// Not limited by the official server, but it sends mail like those above.
	identity("requestPlcOperationSignature", window{5, time.Hour}, window{15, day})

	l.writes = bucketOf(window{5000, time.Hour}, window{35000, day})
	l.methods["com.atproto.repo.createRecord"] = use{l.writes, byAccount, writePoints("create")}
	l.methods["com.atproto.repo.putRecord"] = use{l.writes, byAccount, writePoints("update")}
	l.methods["com.atproto.repo.deleteRecord"] = use{l.writes, byAccount, writePoints("delete")}
	l.methods["com.atproto.repo.applyWrites"] = use{l.writes, byWrite, 0}
	l.methods[uploadBlob] = use{bucketOf(window{1000, day}), byAccount, 1}
	l.moving = bucketOf(window{100_000, day})
	server("reserveSigningKey", byAddress, window{100, 5 * time.Minute}) // not limited by the official server either
	return l
}

// writePoints is what a write costs.
func writePoints(action string) int {
	switch action {
	case "create":
		return 3
	case "update":
		return 2
	}
	return 1
}

// Admit counts a request of an address.
func (l *Limiter) Admit(w http.ResponseWriter, r *xrpc.Request) error {
	if l == nil || r.NSID == getRepo || l.bypasses(r.Request) {
		return nil
	}
	return l.take(w.Header(), l.all, 1, address(r.Request))
}

// Limit counts a request in its method's bucket.
func (l *Limiter) Limit(w http.ResponseWriter, r *xrpc.Request) error {
	if l == nil {
		return nil
	}
	u, ok := l.methods[string(r.NSID)]
	if !ok || l.bypasses(r.Request) {
		return nil
	}
	switch u.by {
	case byLogin, byWrite: // what counts stands in the body, which is not read yet
		return nil
	case byAccount:
		if account := account(r); account != "" {
			if r.NSID == uploadBlob && l.cfg.Moving != nil && l.cfg.Moving(r.Context(), account) {
				u.bucket = l.moving
			}
			return l.take(w.Header(), u.bucket, u.points, account)
		}
	}
	return l.take(w.Header(), u.bucket, u.points, address(r.Request))
}

// Writes counts what a request of several writes is about to write, all or nothing. It is for
// atproto.Service.CountWrites.
func (l *Limiter) Writes(r *xrpc.Request, creates, updates, deletes int) error {
	if l == nil || l.bypasses(r.Request) {
		return nil
	}
	points := creates*writePoints("create") + updates*writePoints("update") + deletes*writePoints("delete")
	return l.take(r.AnswerHeader(), l.writes, points, account(r))
}

// account is the account of this host that makes a request; empty if it is none.
func account(r *xrpc.Request) string {
	if r.Principal.Role != auth.User {
		return ""
	}
	return string(r.Principal.DID)
}

// Password counts a try of a password of an account: its DID, or what it was called if there is
// none. Methods call it before they look at the password, and done once they have.
func (l *Limiter) Password(r *xrpc.Request, account string) (done func(right bool), err error) {
	if l == nil || l.bypasses(r.Request) {
		return func(bool) {}, nil
	}
	here := []string{address(r.Request), account}
	if err := l.take(r.AnswerHeader(), l.tries, 1, here...); err != nil {
		return nil, err
	}
	known := !l.right.has(l.hash(here), 1, l.cfg.Now())
	if !known {
		if err := l.take(nil, l.wrong, 1, account); err != nil {
			return nil, err
		}
	}
	return func(right bool) {
		if !right {
			return
		}
		now := l.cfg.Now()
		if !known {
			l.wrong.give(l.hash([]string{account}), 1, now)
		}
		l.right.take(l.hash(here), 1, now)
	}, nil
}

// administrator is who an administrator logs in as; no DID is like it.
const administrator = "the administrator"

// Admin counts a login as the administrator, of which only wrong ones are limited. From the
// machine itself, only the limit of its address holds. That is seen by the port: what a proxy says
// of an address has none, and could be the word of its client.
func (l *Limiter) Admin(r *xrpc.Request, right bool) error {
	if l == nil || l.bypasses(r.Request) {
		return nil
	}
	points := 1
	if right {
		points = 0
	}
	now := l.cfg.Now()
	here := []string{address(r.Request), administrator}
	if !l.tries.has(l.hash(here), 1, now) {
		points = 1 // refused, however it is
	}
	if err := l.take(nil, l.tries, points, here...); err != nil {
		return err
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if local := err == nil && from.Port() != 0 && from.Addr().Unmap().IsLoopback(); local || !l.right.has(l.hash(here), 1, now) {
		return nil
	}
	if !l.wrong.has(l.hash([]string{administrator}), 1, now) {
		points = 1
	}
	if err := l.take(nil, l.wrong, points, administrator); err != nil {
		return err
	}
	if right {
		l.right.take(l.hash(here), 1, now)
	}
	return nil
}

// take takes points from a bucket and says so in the header of the answer, which may be nil.
func (l *Limiter) take(h http.Header, b *bucket, points int, key ...string) error {
	now := l.cfg.Now()
	st := b.take(l.hash(key), points, now)
	if st.ok {
		// Of several buckets, the client is told about the one with least left.
		if before := h.Get("Ratelimit-Remaining"); before != "" {
			if n, _ := strconv.Atoi(before); n <= st.left {
				return nil
			}
		}
		if h != nil {
			st.describe(h)
		}
		return nil
	}
	e := &xrpc.Error{Status: http.StatusTooManyRequests, Message: "Rate Limit Exceeded", Header: http.Header{}}
	st.describe(e.Header)
	wait := int64(st.reset.Sub(now)/time.Second) + 1
	e.Header["Retry-After"] = []string{strconv.FormatInt(wait, 10)}
	return e
}

// describe sets the header fields of an allowance.
func (s status) describe(h http.Header) {
	limit := strconv.Itoa(s.points)
	h["Ratelimit-Limit"] = []string{limit}
	h["Ratelimit-Remaining"] = []string{strconv.Itoa(s.left)}
	h["Ratelimit-Reset"] = []string{strconv.FormatInt(s.reset.Unix(), 10)}
	h["Ratelimit-Policy"] = []string{limit + ";w=" + strconv.Itoa(int(s.length/time.Second))}
}

// hash makes a key of bounded size.
func (l *Limiter) hash(parts []string) uint64 {
	if len(parts) == 1 {
		return maphash.String(l.seed, parts[0])
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// bypasses reports whether a request is not counted.
func (l *Limiter) bypasses(r *http.Request) bool {
	if l.cfg.BypassKey != "" {
		if key := r.Header.Get("X-Ratelimit-Bypass"); key != "" && subtle.ConstantTimeCompare([]byte(key), []byte(l.cfg.BypassKey)) == 1 {
			return true
		}
	}
	if len(l.cfg.Bypass) == 0 {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	for _, p := range l.cfg.Bypass {
		if p.Contains(from.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// address is what requests of one client have in common.
func address(r *http.Request) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	a := from.Addr().Unmap()
	if a.Is4() {
		return a.String()
	}
	network, _ := a.WithZone("").Prefix(64) // fails only for lengths that do not fit
	return network.String()
}
