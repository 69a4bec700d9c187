package pds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/crawl"
)

const (
	// restTidy is how often the store of a server that rests is tidied while there is anything to
	// tidy: uploads that were not used within unusedBlobs are gone at the next time.
	restTidy = unusedBlobs + time.Hour
	// restKey holds, in the host's namespace, what a server that rests remembers.
	restKey = "maintenance/rest"
)

// onDemand is what a server that rests between requests does in the place of Run.
type onDemand struct {
	round    sync.Mutex  // held by the call of Maintain that is under way
	uploaded atomic.Bool // since the store was tidied

	// mu guards these.
	mu     sync.Mutex
	read   bool // state was read from the store
	state  restState
	kept   []byte        // state as it is stored
	rounds *crawl.Rounds // nil: no relays are asked
}

// restState is the form of what is remembered.
type restState struct {
	// Tidied is when the store was last tidied, and Seq the newest event at that time.
	Tidied time.Time `json:"tidied,omitzero"`
	Seq    int64     `json:"seq,omitzero"`
	// Again is set if the store must be tidied again even if nothing is written.
	Again bool            `json:"again,omitzero"`
	Crawl json.RawMessage `json:"crawl,omitempty"` // of crawl.Rounds
}

// openRest reads what is remembered, once. The caller holds rest.mu.
func (s *Server) openRest(ctx context.Context) error {
	r := &s.onDemand
	if r.read {
		return nil
	}
	err := s.cfg.Store.KV.Read(ctx, func(kv storage.KVReader) error {
		text, err := kv.Get(ctx, restKey)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err == nil && exactjson.Unmarshal(text, &r.state) != nil {
			r.state = restState{} // of another version: all is looked at again
		}
		r.kept = text
		return err
	})
	if err != nil {
		return err
	}
	if s.crawler != nil {
		r.rounds = s.crawler.Rounds(r.state.Crawl)
	}
	r.read = true
	return nil
}

// keepRest stores what is to be remembered. The caller holds rest.mu.
func (s *Server) keepRest(ctx context.Context) error {
	r := &s.onDemand
	if r.rounds != nil {
		r.state.Crawl = r.rounds.State()
	}
	text, err := json.Marshal(r.state)
	if err != nil || bytes.Equal(text, r.kept) {
		return err
	}
	if err := s.cfg.Store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, restKey, text, time.Time{}) }); err != nil {
		return err
	}
	r.kept = text
	return nil
}

// Due returns when to call Maintain next; the zero time means not before something was written. It
// is for servers that do not run between requests, and is cheap. Call it after each request, and
// set the process's alarm to the result if that is earlier than the present alarm.
func (s *Server) Due(ctx context.Context) (time.Time, error) {
	s.made()
	_, newest, err := s.cfg.Store.Events.Bounds(ctx)
	if err != nil {
		return time.Time{}, err
	}
	r := &s.onDemand
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := s.openRest(ctx); err != nil {
		return time.Time{}, err
	}
	var at time.Time
	if r.state.Again || newest > r.state.Seq || r.uploaded.Load() {
		at = r.state.Tidied.Add(restTidy)
	}
	if r.rounds != nil {
		if due := r.rounds.Due(newest); !due.IsZero() && (at.IsZero() || due.Before(at)) {
			at = due
		}
	}
	if s.Mail != nil {
		due, err := s.Mail.Due(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if !due.IsZero() && (at.IsZero() || due.Before(at)) {
			at = due
		}
	}
	if now := s.cfg.Now(); !at.IsZero() && at.Before(now) {
		at = now
	}
	return at, nil
}

// Maintain does once the due part of the work of Run: it completes interrupted changes of accounts,
// sends mail, asks relays to read the server, and deletes what is no longer used. It is for servers
// that do not run between requests, such as a Durable Object: an alarm calls Maintain when
// [Server.Due] says so. If nothing is written, no more calls are needed after some days. After an
// error, call it again, but not within a minute. Do not combine it with Run.
func (s *Server) Maintain(ctx context.Context) error {
	s.made()
	r := &s.onDemand
	r.round.Lock()
	defer r.round.Unlock()
	if err := s.Accounts.Repair(ctx); err != nil {
		return fmt.Errorf("pds: changes of accounts that were interrupted: %w", err)
	}
	r.mu.Lock()
	err := s.openRest(ctx)
	rounds, state := r.rounds, r.state
	r.mu.Unlock()
	if err != nil {
		return err
	}
	var mailed, crawled, tidied error
	if s.Mail != nil {
		mailed = s.Mail.Turn(ctx)
	}
	if rounds != nil {
		crawled = rounds.Turn(ctx)
	}
	if now := s.cfg.Now(); now.Sub(state.Tidied) >= restTidy {
		state, tidied = s.tidyAtRest(ctx, now, state)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if tidied == nil {
		r.state = state
	}
	return errors.Join(mailed, crawled, tidied, s.keepRest(ctx))
}

// tidyAtRest tidies the store, and decides whether it has to be done again.
func (s *Server) tidyAtRest(ctx context.Context, now time.Time, before restState) (restState, error) {
	uploaded := s.onDemand.uploaded.Swap(false)
	p := &pass{}
	for more := true; more; {
		if err := s.tidy(ctx, now, p, term{kv: s.cfg.Store.KV}); err != nil {
			s.onDemand.uploaded.Store(uploaded)
			return before, err
		}
		after, err := s.sweepPosition(ctx)
		if err != nil {
			return before, err
		}
		more = after != ""
	}
	oldest, newest, err := s.cfg.Store.Events.Bounds(ctx)
	if err != nil {
		return before, err
	}
	// After a long rest, an upload may be what has led to this call, and its process may be gone.
	rested := now.Sub(before.Tidied) > restTidy+time.Hour
	again := rested || uploaded || p.deleted > 0 || newest > before.Seq || newest >= oldest
	return restState{Tidied: now, Seq: newest, Again: again, Crawl: before.Crawl}, nil
}

// Left says that the last subscriber of the event stream has left, if something other than
// Server.Outbox serves it. It is for servers that use [Server.Maintain].
func (s *Server) Left(ctx context.Context) error {
	s.made()
	r := &s.onDemand
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := s.openRest(ctx); err != nil || r.rounds == nil {
		return err
	}
	r.rounds.Left()
	return s.keepRest(ctx)
}
