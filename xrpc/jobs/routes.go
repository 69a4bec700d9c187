package jobs

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// Config configures the methods. Queues and Auth are required.
type Config struct {
	Queues []*queue.Queue
	// Auth authenticates callers: see [Auth]. All accepted callers may do everything with all
	// Queues, unless Allow restricts them.
	Auth xrpc.Authenticator
	// Allow, if not nil, reports whether a caller may use a queue.
	Allow func(p auth.Principal, queue string) bool
	// MaxWait bounds how long a lease request waits for a job. It should be shorter than the
	// timeouts of reverse proxies. 0: 20 seconds.
	MaxWait time.Duration
	// Waiting bounds how many lease requests wait at a time. 0: 64.
	Waiting int
}

// Auth returns an authenticator that accepts the administrator, and the services in workers with a
// token for the called method. Either of admin and v may be nil. Without workers, no service is
// accepted.
func Auth(admin xrpc.Authenticator, v *serviceauth.Verifier, workers ...syntax.DID) xrpc.Authenticator {
	known := make(map[syntax.DID]bool, len(workers))
	for _, did := range workers {
		known[did] = true
	}
	var service xrpc.Authenticator
	if v != nil {
		service = v.Authenticator(nil)
	}
	return func(r *xrpc.Request) (auth.Principal, error) {
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "bearer") && service != nil {
			p, err := service(r)
			if err == nil && !known[p.DID] {
				return auth.Principal{}, &xrpc.Error{Status: http.StatusForbidden, Message: "This service does not do jobs here"}
			}
			return p, err
		}
		if admin == nil {
			return auth.Principal{}, &xrpc.Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}
		}
		return admin(r)
	}
}

// The limits of inputs: see the package comment.
const (
	maxItems = 100
	// maxInput is for jobs of a megabyte, which base64 makes longer.
	maxInput = 8 << 20
	// maxSmall is for leases and results.
	maxSmall = 512 << 10
)

// Routes returns the methods. It panics if the configuration is incomplete, or if two queues have
// the same name.
func Routes(cfg Config) []xrpc.Route {
	if cfg.Auth == nil || len(cfg.Queues) == 0 {
		panic("jobs: Config.Auth and Config.Queues are required")
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = 20 * time.Second
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = 64
	}
	s := &service{cfg: cfg, queues: make(map[string]*queue.Queue), waiting: make(chan struct{}, cfg.Waiting)}
	for _, q := range cfg.Queues {
		if s.queues[q.Name()] != nil {
			panic("jobs: two queues with the name " + q.Name())
		}
		s.queues[q.Name()] = q
	}
	route := func(name string, h xrpc.Handler, limit int64) xrpc.Route {
		return xrpc.Route{NSID: name, Auth: cfg.Auth, Handler: h, MaxBody: limit, PlainJSON: true}
	}
	return []xrpc.Route{
		route(sendMethod, xrpc.Procedure(s.send), maxInput),
		route(leaseMethod, xrpc.Procedure(s.lease), maxSmall),
		route(extendMethod, xrpc.Procedure(s.extend), maxSmall),
		route(finishMethod, xrpc.Procedure(s.finish), maxSmall),
		route(statsMethod, xrpc.Procedure(s.stats), maxSmall),
	}
}

type service struct {
	cfg     Config
	queues  map[string]*queue.Queue
	waiting chan struct{} // has room for those that wait
}

// queue returns a queue that the caller may use.
func (s *service) queue(r *xrpc.Request, name string, items int) (*queue.Queue, error) {
	q := s.queues[name]
	if q == nil || s.cfg.Allow != nil && !s.cfg.Allow(r.Principal, name) {
		return nil, &xrpc.Error{Status: http.StatusNotFound, Name: "QueueNotFound", Message: "There is no such queue"}
	}
	if items > maxItems {
		return nil, xrpc.InvalidRequest("At most 100 at a time")
	}
	return q, nil
}

func (s *service) send(ctx context.Context, r *xrpc.Request, in sendInput) (out sendOutput, err error) {
	q, err := s.queue(r, in.Queue, len(in.Jobs))
	if err != nil {
		return out, err
	}
	list := make([]queue.Message, len(in.Jobs))
	for i, m := range in.Jobs {
		delay, err := milliseconds(m.Delay)
		if err != nil {
			return out, err
		}
		list[i] = queue.Message{Body: m.Body, Key: m.Key, ID: m.ID, Delay: delay}
	}
	out.IDs, err = q.Send(ctx, list...)
	switch {
	case errors.Is(err, queue.ErrTooLarge), errors.Is(err, queue.ErrMessage):
		return out, &xrpc.Error{Name: "TooLarge", Message: err.Error()}
	case errors.Is(err, queue.ErrNoRoom):
		return out, &xrpc.Error{Status: http.StatusServiceUnavailable, Name: "NoRoom", Message: "Too many jobs are waiting", Header: http.Header{"Retry-After": {"10"}}}
	}
	return out, err
}

// maxDelay bounds delays in inputs.
const maxDelay = 366 * 24 * time.Hour

func milliseconds(n int64) (time.Duration, error) {
	if n < 0 || n > maxDelay.Milliseconds() {
		return 0, xrpc.InvalidRequest("A delay is a number of milliseconds, at most a year")
	}
	return time.Duration(n) * time.Millisecond, nil
}

// lease leases jobs, and gives them back if the caller has gone meanwhile.
func (s *service) lease(ctx context.Context, r *xrpc.Request, in leaseInput) (out leaseOutput, err error) {
	q, err := s.queue(r, in.Queue, in.Most)
	if err != nil {
		return out, err
	}
	if in.Most < 0 || in.Wait < 0 {
		return out, xrpc.InvalidRequest("most and wait are not negative")
	}
	wait := min(time.Duration(min(in.Wait, s.cfg.MaxWait.Milliseconds()))*time.Millisecond, s.cfg.MaxWait)
	if wait > 0 {
		select {
		case s.waiting <- struct{}{}:
			defer func() { <-s.waiting }()
		default:
			wait = 0
		}
	}
	out = leaseOutput{LeaseTime: q.LeaseTime().Milliseconds(), Jobs: []job{}}
	list, err := q.Take(ctx, max(in.Most, 1), wait)
	if err != nil {
		return out, err
	}
	if ctx.Err() != nil {
		back := make([]queue.Result, len(list))
		for i, j := range list {
			back[i] = queue.Result{Job: j, Err: queue.ErrReleased}
		}
		_, err := q.Finish(context.WithoutCancel(ctx), back...)
		return out, errors.Join(ctx.Err(), err)
	}
	for _, j := range list {
		out.Jobs = append(out.Jobs, job{
			ID: j.ID, Lease: j.Lease, Body: j.Body, Key: j.Key, Attempt: j.Attempt, Enqueued: j.Enqueued, Until: j.Until, LastError: j.LastError,
		})
	}
	return out, nil
}

func (s *service) extend(ctx context.Context, r *xrpc.Request, in extendInput) (out extendOutput, err error) {
	q, err := s.queue(r, in.Queue, len(in.Leases))
	if err != nil {
		return out, err
	}
	list := make([]*queue.Job, len(in.Leases))
	for i, l := range in.Leases {
		list[i] = &queue.Job{ID: l.ID, Lease: l.Lease}
	}
	lost, err := q.Extend(ctx, list...)
	out = extendOutput{LeaseTime: q.LeaseTime().Milliseconds(), Lost: []string{}}
	for _, j := range lost {
		out.Lost = append(out.Lost, j.ID)
	}
	for _, j := range list {
		if j.Until.After(out.Until) {
			out.Until = j.Until
		}
	}
	return out, err
}

func (s *service) finish(ctx context.Context, r *xrpc.Request, in finishInput) (out finishOutput, err error) {
	q, err := s.queue(r, in.Queue, len(in.Results))
	if err != nil {
		return out, err
	}
	list := make([]queue.Result, len(in.Results))
	for i, x := range in.Results {
		failure, err := x.err()
		if err != nil {
			return out, err
		}
		list[i] = queue.Result{Job: &queue.Job{ID: x.ID, Lease: x.Lease}, Err: failure}
	}
	out.Lost = []string{}
	errs, err := q.Finish(ctx, list...)
	for i, err := range errs {
		if err != nil {
			out.Lost = append(out.Lost, list[i].Job.ID)
		}
	}
	return out, err
}

// err is what a result says.
func (x *result) err() (err error, bad error) {
	switch {
	case x.Released:
		return queue.ErrReleased, nil
	case x.Error == "" && !x.Dead && x.Delay == nil:
		return nil, nil
	case x.Error == "":
		x.Error = "the worker gave no reason"
	}
	err = errors.New(x.Error)
	if x.Delay != nil {
		delay, bad := milliseconds(*x.Delay)
		if bad != nil {
			return nil, bad
		}
		err = queue.After(err, delay)
	}
	if x.Dead {
		err = queue.Dead(err)
	}
	return err, nil
}

func (s *service) stats(ctx context.Context, r *xrpc.Request, in statsInput) (out statsOutput, err error) {
	q, err := s.queue(r, in.Queue, 0)
	if err != nil {
		return out, err
	}
	st, err := q.Stats(ctx)
	out = statsOutput{Due: st.Due, Later: st.Later, Behind: st.Behind, Dead: st.Dead, Paused: st.Paused}
	if !st.Oldest.IsZero() {
		out.Oldest = &st.Oldest
	}
	return out, err
}
