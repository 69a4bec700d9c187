package rate

import (
	"context"
	"crypto/subtle"
	"hash/maphash"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Config configures a Limiter. The zero value works.
type Config struct {
	// Table has the limits. Nil: Official. It is not used after New.
	Table *Table
	// BypassKey, if not empty, exempts requests that have it in their header X-Ratelimit-Bypass.
	BypassKey string
	// Bypass are networks whose requests are exempt.
	Bypass []netip.Prefix
	// Moving, if not nil, reports whether an account is moving to this server. It may then upload
	// all its blobs: see Table.Moving.
	Moving func(ctx context.Context, account string) bool
	// Shared, if not nil, makes several nodes count together. Then call [Limiter.Run].
	Shared *Shared
	// MaxKeys bounds the keys of each limit, at some 100 bytes for each. 0: 65,536.
	MaxKeys int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Limiter enforces limits. Its methods are for the fields with the same names of an xrpc.Server. A
// nil Limiter has no limits. It is safe for concurrent use.
type Limiter struct {
	cfg     Config
	seed    maphash.Seed
	all     *bucket
	apart   map[string]bool // methods that all does not count
	moving  *bucket         // uploads of accounts that move here
	writes  *bucket         // of records, by account
	costs   Costs
	methods map[string]use
	// tries counts passwords by account and network, wrong those that were not right by account,
	// and right has the networks of each account from which one was.
	tries, wrong, right *bucket
	names               *bucket // accounts for which a network has tried passwords
	endpoints, clients  map[string]*bucket
	// exchanges are the buckets whose counters are exchanged with other nodes.
	exchanges []*bucket
}

// use is how a method uses a bucket.
type use struct {
	bucket *bucket
	by     By
	points int
}

// New returns a limiter. It panics if [Table.Validate] returns an error.
func New(cfg Config) *Limiter {
	t := cfg.Table
	if t == nil {
		t = Official()
	}
	if err := t.Validate(); err != nil {
		panic(err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxKeys <= 0 {
		cfg.MaxKeys = 1 << 16
	}
	if s := cfg.Shared; s != nil && (s.KV == nil || len(s.Secret) < 16) {
		panic("rate: Config.Shared needs a KV, and a Secret of 16 bytes at least")
	}
	l := &Limiter{cfg: cfg, seed: maphash.MakeSeed(), costs: t.Costs, methods: make(map[string]use), apart: make(map[string]bool)}
	bucketOf := func(name string, by By, windows []Window) *bucket {
		if len(windows) == 0 {
			return nil
		}
		b := &bucket{name: name, windows: slices.Clone(windows), max: cfg.MaxKeys}
		if cfg.Shared != nil {
			b.sharing = sharingOf(windows, by == Account)
		}
		if b.sharing == exchanged {
			l.exchanges = append(l.exchanges, b)
		}
		return b
	}
	l.all, l.moving, l.writes = bucketOf("all", Network, t.All), bucketOf("moving", Account, t.Moving), bucketOf("writes", Account, t.Writes)
	l.tries, l.wrong = bucketOf("tries", Network, t.Tries), bucketOf("wrong", Account, t.Wrong)
	if len(t.Names) > 0 { // each node for itself: it bounds what the node writes
		l.names = &bucket{name: "names", windows: slices.Clone(t.Names), max: cfg.MaxKeys}
	}
	if t.Known > 0 {
		l.right = bucketOf("right", Network, []Window{{1, t.Known}})
	}
	for name, rule := range t.Methods {
		l.methods[name] = use{bucketOf("method/"+name, rule.By, rule.Windows), rule.By, 1}
		l.apart[name] = rule.Apart
	}
	bucketsOf := func(kind string, table map[string][]Window) map[string]*bucket {
		m := make(map[string]*bucket)
		for name, windows := range table {
			m[name] = bucketOf(kind+name, Network, windows)
		}
		return m
	}
	l.endpoints, l.clients = bucketsOf("endpoint/", t.Endpoints), bucketsOf("client/", t.Clients)
	for name, points := range map[string]int{createRecord: t.Costs.Create, putRecord: t.Costs.Update, deleteRecord: t.Costs.Delete} {
		l.methods[name] = use{l.writes, Account, points}
	}
	return l
}

// Admit counts a request of a network.
func (l *Limiter) Admit(w http.ResponseWriter, r *xrpc.Request) error {
	if l == nil || l.apart[string(r.NSID)] || l.bypasses(r.Request) {
		return nil
	}
	return l.take(r.Context(), w.Header(), l.all, 1, address(r.Request))
}

// Limit counts a request of its method.
func (l *Limiter) Limit(w http.ResponseWriter, r *xrpc.Request) error {
	if l == nil {
		return nil
	}
	u, ok := l.methods[string(r.NSID)]
	if !ok || l.bypasses(r.Request) {
		return nil
	}
	if account := account(r); u.by == Account && account != "" {
		if r.NSID == uploadBlob && l.cfg.Moving != nil && l.cfg.Moving(r.Context(), account) {
			u.bucket = l.moving
		}
		return l.take(r.Context(), w.Header(), u.bucket, u.points, account)
	}
	return l.take(r.Context(), w.Header(), u.bucket, u.points, address(r.Request))
}

// Writes counts the writes of a request with several writes, all or none. Use it as CountWrites of
// atproto.Service.
func (l *Limiter) Writes(r *xrpc.Request, creates, updates, deletes int) error {
	if l == nil || l.bypasses(r.Request) {
		return nil
	}
	points := creates*l.costs.Create + updates*l.costs.Update + deletes*l.costs.Delete
	return l.take(r.Context(), r.AnswerHeader(), l.writes, points, account(r))
}

// Endpoint counts a request for something other than a method, such as the token endpoint of OAuth:
// by its network if client is empty, else by the OAuth client. The error is a *limit.Error.
func (l *Limiter) Endpoint(r *http.Request, name, client string) error {
	if l == nil || l.bypasses(r) {
		return nil
	}
	b, key := l.endpoints[name], address(r)
	if client != "" {
		b, key = l.clients[name], client
	}
	if b == nil {
		return nil
	}
	now := l.cfg.Now()
	st, err := l.use(r.Context(), b, 1, l.hash(b, key), now)
	switch {
	case err != nil:
		return &limit.Error{What: name, RetryAfter: time.Second}
	case !st.ok:
		return &limit.Error{What: name, Own: true, RetryAfter: st.reset.Sub(now)}
	}
	return nil
}

// account is the account of this host that makes a request; empty if it is none.
func account(r *xrpc.Request) string {
	if r.Principal.Role != auth.User {
		return ""
	}
	return string(r.Principal.DID)
}

// Password counts an attempt to use a password of an account: its DID, or the given name if there
// is no such account. Methods call it before they check the password, and done afterwards.
func (l *Limiter) Password(r *xrpc.Request, account string) (done func(right bool), err error) {
	if l == nil || l.bypasses(r.Request) {
		return func(bool) {}, nil
	}
	ctx, here := r.Context(), []string{address(r.Request), account}
	known := false
	fresh := l.names != nil && (l.tries == nil || l.tries.get(l.hash(l.tries, here...)) == usage{})
	if fresh {
		if known, err = l.known(ctx, here); err != nil {
			return nil, err
		}
		if !known {
			if err := l.take(ctx, nil, l.names, 1, here[0]); err != nil {
				return nil, err
			}
		}
	}
	if err := l.take(ctx, r.AnswerHeader(), l.tries, 1, here...); err != nil {
		return nil, err
	}
	if !fresh {
		if known, err = l.known(ctx, here); err != nil {
			return nil, err
		}
	}
	if !known {
		if err := l.take(ctx, nil, l.wrong, 1, account); err != nil {
			return nil, err
		}
	}
	return func(right bool) {
		if !right || known {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
		defer cancel()
		now := l.cfg.Now()
		l.back(ctx, l.wrong, 1, l.hash(l.wrong, account), now)
		_, _ = l.use(ctx, l.right, 1, l.hash(l.right, here...), now)
	}, nil
}

// noteTime bounds how long it takes to note that a password was right.
const noteTime = 5 * time.Second

// known reports whether a password of an account was right at a network.
func (l *Limiter) known(ctx context.Context, here []string) (bool, error) {
	fresh, err := l.hasLeft(ctx, l.right, 1, l.hash(l.right, here...), l.cfg.Now())
	return !fresh, err
}

// administrator is who an administrator logs in as; no DID is like it.
const administrator = "the administrator"

// Admin counts a login as the administrator. Only wrong ones are limited. For requests from the
// machine itself, only the limit of its address applies. Those are recognised by their port:
// addresses that a proxy reports have none, and could be forged by the client.
func (l *Limiter) Admin(r *xrpc.Request, right bool) error {
	if l == nil || l.bypasses(r.Request) {
		return nil
	}
	points := 1
	if right {
		points = 0
	}
	ctx, now := r.Context(), l.cfg.Now()
	here := []string{address(r.Request), administrator}
	left, err := l.hasLeft(ctx, l.tries, 1, l.hash(l.tries, here...), now)
	if err != nil {
		return err
	}
	if !left {
		points = 1 // refused, however it is
	}
	if err := l.take(ctx, nil, l.tries, points, here...); err != nil {
		return err
	}
	known, err := l.known(ctx, here)
	if err != nil {
		return err
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if local := err == nil && from.Port() != 0 && from.Addr().Unmap().IsLoopback(); local || known {
		return nil
	}
	if left, err = l.hasLeft(ctx, l.wrong, 1, l.hash(l.wrong, administrator), now); err != nil {
		return err
	}
	if !left {
		points = 1
	}
	if err := l.take(ctx, nil, l.wrong, points, administrator); err != nil {
		return err
	}
	if right {
		_, err = l.use(ctx, l.right, 1, l.hash(l.right, here...), now)
	}
	return err
}

// take takes points from a bucket and says so in the header of the answer, which may be nil.
func (l *Limiter) take(ctx context.Context, h http.Header, b *bucket, points int, key ...string) error {
	if b == nil {
		return nil
	}
	now := l.cfg.Now()
	st, err := l.use(ctx, b, points, l.hash(b, key...), now)
	if err != nil {
		return err
	}
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
	most := strconv.Itoa(s.Points)
	h["Ratelimit-Limit"] = []string{most}
	h["Ratelimit-Remaining"] = []string{strconv.Itoa(s.left)}
	h["Ratelimit-Reset"] = []string{strconv.FormatInt(s.reset.Unix(), 10)}
	h["Ratelimit-Policy"] = []string{most + ";w=" + strconv.Itoa(int(s.Length/time.Second))}
}

// hash makes a key of bounded size.
func (l *Limiter) hash(b *bucket, parts ...string) uint64 {
	if b != nil && b.sharing != own {
		return l.sharedHash(parts)
	}
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
	return limit.NetworkOf(from.Addr()).String()
}
