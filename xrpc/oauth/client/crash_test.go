package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

var errFault = errors.New("fault")

// faults makes one call of a store or of the network fail, before it has an effect or after.
type faults struct {
	mu    sync.Mutex
	on    bool
	n, at int
	after bool
	crash bool // and all that follow
	names []string
}

func (f *faults) call(name string, fn func() error) error {
	f.mu.Lock()
	if !f.on {
		f.mu.Unlock()
		return fn()
	}
	f.n++
	n := f.n
	f.names = append(f.names, name)
	f.mu.Unlock()
	switch {
	case n == f.at && f.after:
		fn()
		return errFault
	case n == f.at || n > f.at && f.at > 0 && f.crash:
		return errFault
	}
	return fn()
}

// faultyStore is a store with faults.
type faultyStore struct {
	*client.Memory
	f *faults
}

func (s faultyStore) Get(ctx context.Context, id client.SessionID) (v []byte, err error) {
	err = s.f.call("Get", func() error { v, err = s.Memory.Get(ctx, id); return err })
	return v, err
}

func (s faultyStore) CompareAndSwap(ctx context.Context, id client.SessionID, old, new []byte) error {
	return s.f.call("CompareAndSwap", func() error { return s.Memory.CompareAndSwap(ctx, id, old, new) })
}

func (s faultyStore) Delete(ctx context.Context, id client.SessionID, old []byte) error {
	return s.f.call("Delete", func() error { return s.Memory.Delete(ctx, id, old) })
}

func (s faultyStore) Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(), err error) {
	err = s.f.call("Lock", func() error { unlock, err = s.Memory.Lock(ctx, name, ttl); return err })
	if err != nil && unlock != nil {
		unlock() // as a lease of a process that has crashed ends
	}
	return unlock, err
}

// faultyNet is a network with faults.
type faultyNet struct {
	http.RoundTripper
	f *faults
}

func (n faultyNet) RoundTrip(r *http.Request) (res *http.Response, err error) {
	err = n.f.call(r.URL.Path, func() error { res, err = n.RoundTripper.RoundTrip(r); return err })
	if err != nil && res != nil {
		res.Body.Close()
		res = nil
	}
	return res, err
}

// TestMatrix176CrashDuringRefresh lets each call of a renewal fail, or the process with it: before
// the call has an effect, and after. Afterwards the session goes on or has ended cleanly; with a
// server that repeats its answer for some time, it goes on.
func TestMatrix176CrashDuringRefresh(t *testing.T) {
	for _, server := range []string{"strict", "provider"} {
		for _, crash := range []bool{false, true} {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/crash %v/after %v", server, crash, after), func(t *testing.T) {
					net := pdstest.New(t)
					f := &faults{crash: crash, after: after}
					var e ends
					a := newApp(t, net, "app.example.net", func(c *client.Config) {
						c.Sessions = faultyStore{&client.Memory{Now: net.Clock.Now}, f}
						c.Keys = []client.Key{{Signer: newKey(t)}}
						c.Discovery.HTTP = &http.Client{Transport: faultyNet{net.Client().Transport, f}}
						c.Transport = net.Client().Transport
						c.OnEnd = e.add
					})
					var login func() *client.Session
					use := call
					if server == "strict" {
						s := rogueAt(net, "pds.example.net")
						login = func() *client.Session { return s.login(t, a) }
					} else {
						alice := net.PDS().Account("alice")
						login = func() *client.Session { return a.login(alice) }
						use = func(t *testing.T, x *client.Session) error {
							return x.Client().Query(t.Context(), "com.atproto.server.getSession", nil, nil)
						}
					}
					x := login()
					calls, went, ended := 0, 0, 0
					for at := 0; at <= calls; at++ {
						net.Clock.Advance(time.Hour)
						f.n, f.at, f.on, f.names = 0, at, true, nil
						err := x.Refresh(t.Context())
						f.on = false
						if at == 0 {
							if err != nil {
								t.Fatal(err)
							}
							if calls = f.n; calls < 6 {
								t.Fatalf("only %q", f.names)
							}
							continue
						}
						name := f.names[at-1]
						if err != nil && !errors.Is(err, client.ErrTemporary) && !errors.Is(err, client.ErrSessionEnded) {
							t.Errorf("%d %s: %v", at, name, err)
						}
						stored := name == "CompareAndSwap" || name == "Lock" || name == "Get" || name == "Delete"
						net.Clock.Advance(10 * time.Second)
						if crash {
							// Another process goes on.
							y, err := a.another().Resume(t.Context(), x.ID())
							if err != nil {
								t.Fatalf("%d %s: %v", at, name, err)
							}
							x = y
						}
						switch err := use(t, x); {
						case err == nil:
							went++
						case errors.Is(err, client.ErrSessionEnded) && server == "strict" && name != "Get" && !(stored && !crash):
							ended++
							if _, err := a.Resume(t.Context(), x.ID()); !errors.Is(err, client.ErrSessionEnded) {
								t.Errorf("%d %s: it is stored: %v", at, name, err)
							}
							x = login()
						default:
							t.Errorf("%d %s: afterwards: %v", at, name, err)
							x = login()
						}
					}
					if n := len(e.list); n != ended {
						t.Errorf("%d have ended, and OnEnd was told %d times", ended, n)
					}
					if want := 0; server == "strict" && (after || crash) && ended == want {
						t.Error("no answer was lost")
					}
					t.Logf("%d calls %q: %d times the session went on, %d times it ended", calls, f.names, went, ended)
				})
			}
		}
	}
}

// A disk that is full for a while: the session goes on in the process that has renewed it, however
// often, and is stored as soon as that is possible.
func TestStoreFails(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	var e ends
	store := &fullStore{Memory: &client.Memory{Now: net.Clock.Now}}
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.Sessions, c.OnEnd = store, e.add })
	for _, revoke := range []bool{false, true} {
		x := s.login(t, a)
		store.full = true
		for range 3 {
			net.Clock.Advance(time.Hour)
			if err := call(t, x); err != nil {
				t.Fatal(err)
			}
			y, err := a.Resume(t.Context(), x.ID()) // in the same process
			if err == nil {
				err = call(t, y)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		store.full = false
		if revoke {
			if err := x.Revoke(t.Context()); err != nil || !s.ended {
				t.Errorf("%v", err)
			}
			if _, err := a.Resume(t.Context(), x.ID()); !errors.Is(err, client.ErrSessionEnded) {
				t.Error(err)
			}
			e.want(t, client.EndedRevoked)
			continue
		}
		if _, err := a.Resume(t.Context(), x.ID()); err != nil {
			t.Fatal(err)
		}
		y, err := a.another().Resume(t.Context(), x.ID())
		if err == nil {
			err = call(t, y)
		}
		if err == nil {
			err = y.Refresh(t.Context())
		}
		if err == nil {
			err = call(t, x)
		}
		if err != nil || s.reused != 0 {
			t.Errorf("%v", err)
		}
		e.want(t)
	}
}

// fullStore cannot write.
type fullStore struct {
	*client.Memory
	full bool
}

func (s *fullStore) CompareAndSwap(ctx context.Context, id client.SessionID, old, new []byte) error {
	if s.full {
		return errFault
	}
	return s.Memory.CompareAndSwap(ctx, id, old, new)
}
