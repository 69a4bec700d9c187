package limit

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Class is a kind of request, and what its requests may hold. Set the fields before use, and do not
// copy it. It is safe for concurrent use.
type Class struct {
	// Gate bounds how many requests of the class run at the same time.
	Gate Gate
	// Bytes bounds what the requests of the class hold together: see Hold. Bodies that were read
	// count, as do answers of more than 4 KiB while they are written. While it is used up, further
	// bodies are refused, and a client that takes more than a second for 64 KiB of its answer is
	// cut off.
	Bytes Budget
	// Stall is how long a client may send nothing of its body or take nothing of its answer.
	// 0: 20 seconds; negative: no limit.
	Stall time.Duration
	// Pace is how many bytes a second a client must send or take on average. It may fall behind by
	// Stall, and being ahead earns it nothing, so that no client can be fast at first and hold what
	// it holds for days. Only the time that is spent waiting for the client counts. 0: 1 KiB.
	Pace int64
}

// Limiter applies classes to requests. Set its fields before use. The zero value works. It is safe
// for concurrent use.
type Limiter struct {
	// Class returns the class of a request; nil: no bounds, as for health checks. If it is nil
	// itself, the class is that of NewMethods.
	Class func(r *http.Request) *Class
	// Privileged, if not nil, reports whether an address may use the places that gates keep for
	// privileged clients.
	Privileged func(a netip.Addr) bool
	// Refused, if not nil, is called for each request that gets no place. It is a place for
	// metrics.
	Refused func(r *http.Request, err *Error)

	once    sync.Once
	classes *Methods
	free    Class // of requests without a class: deadlines apply to them too
}

// Handler serves requests within the bounds of their classes. RemoteAddr must be the client's, so a
// handler that trusts a proxy's X-Forwarded-For comes before this one. What handlers set with
// http.ResponseController as deadlines replaces those of the class.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serve(w, r, next) })
}

// Client returns who makes a request.
func (l *Limiter) Client(r *http.Request) Client {
	a := addrOf(r)
	c := Client{Network: NetworkOf(a)}
	if l.Privileged != nil && a.IsValid() {
		c.Privileged = l.Privileged(a)
	}
	return c
}

func (l *Limiter) class(r *http.Request) *Class {
	if l.Class != nil {
		return l.Class(r)
	}
	l.once.Do(func() { l.classes = NewMethods() })
	return l.classes.Class(r)
}

func (l *Limiter) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	class := l.class(r)
	if class == nil {
		class = &l.free
	}
	held := &lease{class: class, client: l.Client(r)}
	defer held.end()
	out := newResponse(w, r, held)
	defer out.finish()
	in := newBody(r, out)
	leave, err := class.Gate.Enter(r.Context(), held.client)
	if err != nil {
		in.abandon()
		l.refuse(out, r, err)
		return
	}
	defer leave()
	defer in.abandon()
	ctx := WithClient(r.Context(), held.client)
	r2 := r.WithContext(context.WithValue(ctx, leaseKey{}, held))
	if in != nil {
		r2.Body = in
	}
	next.ServeHTTP(out, r2)
	if r2.Pattern != "" {
		r.Pattern = r2.Pattern
	}
}

// refuse answers a request that gets no place.
func (l *Limiter) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := err.(*Error)
	if !ok {
		e = &Error{What: "request", RetryAfter: retryAfter} // its client has gone
	}
	if l.Refused != nil && ok {
		l.Refused(r, e)
	}
	WriteError(w, r, e)
}

// WriteError answers a request with an error, in the envelope of XRPC.
func WriteError(w http.ResponseWriter, r *http.Request, e *Error) {
	h := w.Header()
	maps.Copy(h, e.Header())
	if strings.HasPrefix(r.URL.Path, "/xrpc/") {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Retry-After")
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		h.Set("Connection", "close") // rather than read a body for nothing
	}
	name := "NotEnoughResources"
	if e.Own {
		name = "RateLimitExceeded"
	}
	text, _ := json.Marshal(map[string]string{"error": name, "message": e.Message()})
	h.Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(e.Status())
	w.Write(text)
}

// lease is what one request holds of its class's bytes.
type lease struct {
	class  *Class
	client Client

	mu    sync.Mutex
	held  int64
	ended bool
}

type leaseKey struct{}

// Hold counts n more bytes towards what the request of a context holds, until the request ends or
// they are given back with a negative n. It fails with an *Error, and counts nothing, if the budget
// of the request's class is used up. Without a request in the context it does nothing.
func Hold(ctx context.Context, n int64) error {
	l, _ := ctx.Value(leaseKey{}).(*lease)
	if l == nil {
		return nil
	}
	return l.hold(n)
}

func (l *lease) hold(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended:
		return nil
	case n < 0:
		n = min(-n, l.held)
		l.class.Bytes.Give(l.client, n)
		l.held -= n
		return nil
	}
	if err := l.class.Bytes.Take(l.client, n); err != nil {
		return err
	}
	l.held += n
	return nil
}

// end gives everything back.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.class.Bytes.Give(l.client, l.held)
	l.held = 0
}
