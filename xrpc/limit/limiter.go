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

// Class is a kind of request, with bounds on what its requests may hold. Set the fields before use,
// and do not copy it. It is safe for concurrent use.
type Class struct {
	// Gate bounds the number of concurrent requests of the class.
	Gate Gate
	// Bytes bounds what the requests of the class hold together: see Hold. It includes bodies in
	// memory, and responses of more than 4 KiB while they are written. While it is exhausted,
	// further bodies are refused, and a client that takes more than a second for 64 KiB of its
	// response is disconnected.
	Bytes Budget
	// Stall is how long a client may send nothing of its body, or accept nothing of its response.
	// 0: 20 seconds; negative: no limit.
	Stall time.Duration
	// Pace is how many bytes a second a client must send or accept on average. It may fall behind
	// by Stall. Being ahead gives no credit, so a client cannot be fast at first and then hold its
	// resources for days. Only time spent waiting for the client counts. 0: 1 KiB.
	Pace int64
}

// Limiter applies classes to requests. Set its fields before use. The zero value works. It is safe
// for concurrent use.
type Limiter struct {
	// Class returns the class of a request, or nil for no bounds, as for health checks. If Class
	// itself is nil, it is the method Class of NewMethods.
	Class func(r *http.Request) *Class
	// Privileged, if not nil, reports whether an address may use the places that gates reserve for
	// privileged clients.
	Privileged func(a netip.Addr) bool
	// Refused, if not nil, is called for each refused request, for metrics.
	Refused func(r *http.Request, err *Error)

	once         sync.Once
	classes      *Methods
	unclassified Class // of requests without a class: deadlines apply to them too
}

// Handler serves requests within the bounds of their classes. RemoteAddr must be the client's, so a
// handler that evaluates a proxy's X-Forwarded-For must come before this one. Deadlines that
// handlers set with http.ResponseController replace those of the class.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serve(w, r, next) })
}

// Client returns the client of a request.
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
		class = &l.unclassified
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

// WriteError responds to a request with an error, in the form of XRPC.
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

// Hold adds n bytes to what the request of a context holds, until the request ends or they are
// returned with a negative n. If the budget of the request's class is exhausted, it adds nothing
// and returns an *Error. Without a request in the context it does nothing.
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
