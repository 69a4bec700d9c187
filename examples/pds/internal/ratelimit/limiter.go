// Package ratelimit bounds how often clients may call the server's methods, with
// the allowances of the official server.
//
// A bucket counts by address, by account, or by what somebody tries to log in
// as, in windows of fixed length. A request that is refused takes nothing. Counting an
// IPv6 address means counting its /64 network, since whoever has one address has all of
// those. Memory is bounded: a bucket keeps a fixed number of keys as 64-bit hashes, and forgets
// those that used least.
//
// Counters are in memory, so they start anew with the process.
package ratelimit

import (
	"context"
	"crypto/subtle"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
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
	methods map[string]use
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
	byLogin      // the address together with the name that is logged in as: see Login
	byWrite      // the account, for each write that the method carries
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
	server("createSession", byLogin, window{30, 5 * time.Minute}, window{300, day})
	server("deleteAccount", byAddress, window{50, 5 * time.Minute})
	server("resetPassword", byAddress, window{50, 5 * time.Minute})
	server("requestPasswordReset", byAddress, window{15, time.Hour}, window{50, day})
	for _, name := range []string{"requestAccountDelete", "requestEmailConfirmation", "requestEmailUpdate"} {
		server(name, byAccount, window{5, time.Hour}, window{15, day})
	}
	identity := func(name string, w ...window) {
		l.methods["com.atproto.identity."+name] = use{bucketOf(w...), byAccount, 1}
	}
	identity("updateHandle", window{10, 5 * time.Minute}, window{50, day})
	// Not limited by the official server, but it sends mail like those above.
	identity("requestPlcOperationSignature", window{5, time.Hour}, window{15, day})

	writes := bucketOf(window{5000, time.Hour}, window{35000, day})
	l.methods["com.atproto.repo.createRecord"] = use{writes, byAccount, writePoints("create")}
	l.methods["com.atproto.repo.putRecord"] = use{writes, byAccount, writePoints("update")}
	l.methods["com.atproto.repo.deleteRecord"] = use{writes, byAccount, writePoints("delete")}
	l.methods["com.atproto.repo.applyWrites"] = use{writes, byWrite, 0}
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
	p, _ := r.Principal.(atproto.Principal)
	account := string(p.DID)
	switch u.by {
	case byLogin:
		// What is logged in as stands in the body, which is not read yet.
		r.Request = r.WithContext(context.WithValue(r.Context(), headerKey{}, w.Header()))
		return nil
	case byWrite:
		// Each write asks for permission: the place to count it.
		permit, h := p.Permit, w.Header()
		p.Permit = func(action, target string) error {
			if err := l.take(h, u.bucket, writePoints(action), account); err != nil || permit == nil {
				return err
			}
			return permit(action, target)
		}
		r.Principal = p
		return nil
	case byAccount:
		if account != "" {
			if r.NSID == uploadBlob && l.cfg.Moving != nil && l.cfg.Moving(r.Context(), account) {
				u.bucket = l.moving
			}
			return l.take(w.Header(), u.bucket, u.points, account)
		}
	}
	return l.take(w.Header(), u.bucket, u.points, address(r.Request))
}

// headerKey is the context key of the answer's header.
type headerKey struct{}

// Login counts an attempt to log in as somebody. The method createSession calls
// it before it looks at the password.
func (l *Limiter) Login(r *xrpc.Request, identifier string) error {
	if l == nil || l.bypasses(r.Request) {
		return nil
	}
	h, _ := r.Context().Value(headerKey{}).(http.Header)
	u, ok := l.methods[string(r.NSID)]
	if !ok || u.by != byLogin {
		return nil
	}
	return l.take(h, u.bucket, u.points, address(r.Request), strings.ToLower(strings.TrimSpace(identifier)))
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
