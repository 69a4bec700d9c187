package pds

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

// How the store is probed: with as much data as a request may write, and as rarely as possible.
const (
	probeBytes = 256 << 10
	// probeGood is how long a probe that succeeded counts, if no request fails meanwhile; probeBad,
	// one that failed.
	probeGood = 10 * time.Second
	probeBad  = time.Second
	// probePatience is how long an answer waits for a probe: the writer may be busy. What was found
	// before counts then, unless the probe takes longer than probeStuck.
	probePatience = 3 * time.Second
	probeStuck    = time.Minute
	// probeKey is the key that is written, in the host's namespace.
	probeKey = "probe"
)

// prober knows whether the store can be written. It looks when it is asked.
type prober struct {
	// write is what a probe does; a thorough one writes more than what there is always room for.
	write func(ctx context.Context, thorough bool) error
	now   func() time.Time // nil: time.Now
	// changed, if not nil, is told when the store can no longer be written, or can be again (nil).
	changed func(err error)

	mu      sync.Mutex
	failed  bool          // something has failed since the last probe that succeeded
	err     error         // of the last probe
	at      time.Time     // when it ended
	until   time.Time     // when it no longer counts
	started time.Time     // of the probe that is under way
	running chan struct{} // closed when it has ended; nil: there is none
}

// reportFailure notes that another operation of the store has failed. A good result of the last
// probe then expires as soon as a bad one would.
func (p *prober) reportFailure() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.failed = p.at.Add(probeBad), true
}

// wait waits for a probe that is under way.
func (p *prober) wait(ctx context.Context) {
	p.mu.Lock()
	running := p.running
	p.mu.Unlock()
	if running == nil {
		return
	}
	select {
	case <-running:
	case <-ctx.Done():
	}
}

func (p *prober) time() time.Time {
	if p.now != nil {
		return p.now()
	}
	return time.Now()
}

// writable returns why the store cannot be written, or nil.
func (p *prober) writable(ctx context.Context) error {
	p.mu.Lock()
	if p.running == nil && p.time().Before(p.until) {
		defer p.mu.Unlock()
		return p.err
	}
	if p.running == nil {
		p.running, p.started = make(chan struct{}), p.time()
		go p.probe(p.running, p.failed)
	}
	running, started := p.running, p.started
	p.mu.Unlock()
	patience := time.NewTimer(probePatience)
	defer patience.Stop()
	select {
	case <-running:
	case <-patience.C:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == running && p.time().Sub(started) > probeStuck {
		return errors.New("a write does not end")
	}
	return p.err
}

func (p *prober) probe(done chan struct{}, thorough bool) {
	err := p.write(context.Background(), thorough)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = err != nil
	changed := (err == nil) != (p.err == nil)
	p.err, p.at = err, p.time()
	p.until = p.at.Add(probeGood)
	if err != nil {
		p.until = p.at.Add(probeBad)
	}
	p.running = nil
	close(done)
	if changed && p.changed != nil {
		p.changed(err)
	}
}

// probe writes to the store in each way in which requests do. A thorough one writes a large value:
// a database whose disk is full has room for small ones for a while.
func (s *Server) probe(ctx context.Context, thorough bool) error {
	if s.cfg.Probe != nil {
		if err := s.cfg.Probe(ctx); err != nil {
			return err
		}
	}
	value := []byte(s.cfg.Now().UTC().Format(time.RFC3339))
	if thorough {
		large := make([]byte, probeBytes)
		rand.Read(large) // which no database compresses
		if err := s.probeWith(ctx, large); err != nil {
			return err
		}
	}
	return s.probeWith(ctx, value)
}

func (s *Server) probeWith(ctx context.Context, value []byte) error {
	return s.cfg.Store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, probeKey, value, time.Time{}) })
}

// ProbeDir writes the file "probe" to a directory and removes it. Use it for [Config].Probe: a
// database may have free pages in its files while the disk is full. An existing file of that name
// is overwritten.
func ProbeDir(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// openHealth makes ready for questions whether the server works.
func (s *Server) openHealth() {
	s.prober = &prober{write: s.probe, now: s.cfg.Now, changed: func(err error) {
		if err != nil {
			s.log.Error("the store cannot be written", "err", err)
		} else {
			s.log.Info("the store can be written again")
		}
	}}
}

// Writable returns nil if the store can be written, or the reason why it cannot. It writes to the
// store from time to time; in between, it returns the last result.
func (s *Server) Writable(ctx context.Context) error { return s.prober.writable(ctx) }

// health answers whether the server works: whether its database can be read, and whether the
// store can be written; and that it does not drain.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if xrpc.CORS(w, r) {
		return
	}
	status, answer := http.StatusOK, map[string]string{"version": s.cfg.Version}
	if s.cfg.Node.Shared {
		answer["node"] = s.cfg.Node.ID
	}
	message := "The server is shutting down"
	if !s.Draining() {
		message = s.problem(r.Context())
	}
	if message != "" {
		status, answer["error"], answer["message"] = http.StatusServiceUnavailable, "Service Unavailable", message
	}
	xrpc.WriteJSON(w, status, answer)
}
