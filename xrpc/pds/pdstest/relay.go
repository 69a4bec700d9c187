package pdstest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Relay follows the PDSes of a network from their first event: it subscribes to them and verifies
// each message. It is safe for concurrent use.
type Relay struct {
	net      *Network
	verifier *commit.Verifier

	mu     sync.Mutex
	list   []Seen
	faults []error
	seq    map[*PDS]int64 // of the last message
	come   chan struct{}  // closed when the next message comes
}

// Seen is a message that the relay has received and verified.
type Seen struct {
	PDS *PDS
	stream.Message
}

func newRelay(n *Network) *Relay {
	r := &Relay{net: n, seq: make(map[*PDS]int64)}
	plc := n.PLC()
	r.verifier = &commit.Verifier{Now: n.Clock.Now, Key: func(ctx context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
		doc, err := plc.Resolve(ctx, did)
		if err != nil {
			return nil, err
		}
		return doc.SigningKey()
	}}
	return r
}

// follow subscribes to a PDS until the test ends. Then all that the PDS has published must have
// come.
func (r *Relay) follow(p *PDS) {
	if runtime.GOOS == "js" {
		return // where servers have no WebSockets
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	cursor := int64(0)
	f := &stream.Follower{Verifier: r.verifier, Consumer: stream.Consumer{
		URL: p.config.URL + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: &cursor, HTTP: r.net.ClientFrom("192.0.2.2"), MaxDelay: time.Second,
	}}
	running.Go(func() {
		for m, err := range f.Messages(ctx) {
			if ctx.Err() != nil {
				return
			}
			r.got(p, m, err)
		}
	})
	r.net.t.Cleanup(func() {
		r.net.t.Helper()
		limited, done := context.WithTimeout(ctx, 30*time.Second)
		defer done()
		if err := r.Settle(limited); err != nil {
			r.net.t.Errorf("the relay does not get all that %s has published: %v", p.Name, err)
		}
		cancel()
		running.Wait()
		for _, err := range r.Faults() {
			r.net.t.Errorf("the relay: %v", err)
		}
	})
}

func (r *Relay) got(p *PDS, m stream.Message, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = m.Err
		r.seq[p] = m.Frame.Seq
	}
	if err != nil {
		r.faults = append(r.faults, fmt.Errorf("%s, message %d: %w", p.Name, m.Frame.Seq, err))
	} else {
		r.list = append(r.list, Seen{p, clone(m)})
	}
	if r.come != nil {
		close(r.come)
		r.come = nil
	}
}

// clone copies a message, whose bytes are those of its frame, for it to be kept.
func clone(m stream.Message) stream.Message {
	m.Frame.Payload = slices.Clone(m.Frame.Payload)
	again, err := commit.Decode(m.Frame.Kind, m.Frame.Payload)
	if err != nil {
		return m // of a kind that is not known
	}
	switch again := again.(type) {
	case *commit.Event:
		m.Commit = again
	case *commit.Sync:
		m.Sync = again
	case *commit.Identity:
		m.Identity = again
	case *commit.Account:
		m.Account = again
	}
	records := make(map[string][]byte, len(m.Records))
	for path, record := range m.Records {
		records[path] = slices.Clone(record)
	}
	m.Records = records
	return m
}

// Seen returns the messages about an account so far, in their order.
func (r *Relay) Seen(did syntax.DID) (list []Seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.list {
		if m.DID == did {
			list = append(list, m)
		}
	}
	return list
}

// Faults returns and removes the errors of messages that did not verify, so that they do not fail
// the test.
func (r *Relay) Faults() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.faults
	r.faults = nil
	return list
}

// Settle waits until the relay has received everything that the PDSes have published so far.
func (r *Relay) Settle(ctx context.Context) error {
	r.net.mu.Lock()
	pdses := append([]*PDS(nil), r.net.all...)
	r.net.mu.Unlock()
	for _, p := range pdses {
		_, newest, err := p.Store().Events.Bounds(ctx)
		if err != nil {
			return err
		}
		if err := r.wait(ctx, p, newest); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) wait(ctx context.Context, p *PDS, seq int64) error {
	for {
		r.mu.Lock()
		if r.seq[p] >= seq {
			r.mu.Unlock()
			return nil
		}
		if r.come == nil {
			r.come = make(chan struct{})
		}
		come := r.come
		r.mu.Unlock()
		select {
		case <-come:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), fmt.Errorf("waiting for message %d of %s", seq, p.Name))
		}
	}
}
