package agent

import (
	"context"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
)

// Notice is a record that concerns an agent, as it came over the relay.
type Notice struct {
	// Upto is the position up to which the agent has acted on everything when it has acted on this.
	Upto       int64
	From       syntax.DID
	Collection syntax.NSID
	RKey       syntax.RecordKey
	CID        string
	Record     any // of package lex
}

func (n Notice) ref() lex.Ref { return lex.NewRef(n.From, n.Collection, n.RKey, n.CID) }

// ears read the relay's log, once for all agents, and put into each mailbox what concerns its
// agent. So an agent that nothing concerns sleeps through everything.
type ears struct {
	g *Group

	mu  sync.Mutex
	pos int64 // everything up to this event is in the mailboxes
}

// run listens until the context ends.
func (e *ears) run(ctx context.Context) error {
	heads := make(map[syntax.DID]syntax.TID)
	for event, err := range follow.Events(ctx, e.g.host.Relay.Log(), e.at()) {
		if err != nil {
			return err
		}
		notices, err := e.read(ctx, event, heads)
		if err != nil {
			return err
		}
		e.mu.Lock()
		for a, list := range notices {
			a.mu.Lock()
			if !a.deaf && event.Seq > a.cursor { // one that is deaf reads it when it catches up
				a.heard = append(a.heard, list...)
				a.wake()
			}
			a.mu.Unlock()
		}
		e.pos = event.Seq
		e.mu.Unlock()
		e.g.changed()
	}
	return ctx.Err()
}

func (e *ears) at() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pos
}

// read returns the notices of an event, by agents. Records that break their schemas concern nobody.
// heads has, of each account, the revision of the commit that was read last.
func (e *ears) read(ctx context.Context, event follow.Event, heads map[syntax.DID]syntax.TID) (map[*Agent][]Notice, error) {
	switch m := event.Message.(type) {
	case *commit.Event:
		heads[event.DID] = m.Rev
	case *commit.Sync:
		if heads[event.DID] != m.Rev { // there were commits that did not come
			heads[event.DID] = m.Rev
			return e.readAll(ctx, event)
		}
	}
	return e.sort(event, event.Ops), nil
}

// readAll returns the notices of all records of a repository. The relay had lost track of it, and
// says only where it stands now. What an agent has acted on already, it recognises.
func (e *ears) readAll(ctx context.Context, event follow.Event) (map[*Agent][]Notice, error) {
	var ops []follow.Op
	err := e.g.host.Repos.View(ctx, event.DID, func(r storage.Reader) error {
		for _, collection := range []syntax.NSID{lex.MessageNSID, lex.ResultNSID} {
			for rec, err := range r.Records(ctx, storage.Prefix(string(collection)+"/")) {
				if err != nil {
					return err
				}
				rkey := syntax.RecordKey(strings.TrimPrefix(rec.Path, string(collection)+"/"))
				ops = append(ops, follow.Op{Action: commit.Create, Collection: collection, RKey: rkey, CID: rec.CID, Record: rec.Data})
			}
		}
		return nil
	})
	return e.sort(event, ops), ignore(err)
}

// sort makes notices of operations.
func (e *ears) sort(event follow.Event, ops []follow.Op) map[*Agent][]Notice {
	var all map[*Agent][]Notice
	for _, op := range ops {
		if op.Record == nil || op.Collection != lex.ResultNSID && op.Collection != lex.MessageNSID {
			continue
		}
		record, err := lex.Read(op.Collection, op.RKey, op.Record)
		if err != nil {
			continue
		}
		n := Notice{event.Seq, event.DID, op.Collection, op.RKey, op.CID.String(), record}
		a := e.g.addressee(n)
		if a == nil {
			continue
		}
		if all == nil {
			all = make(map[*Agent][]Notice)
		}
		if list := all[a]; len(list) > 0 { // the event is done with its last notice
			list[len(list)-1].Upto = event.Seq - 1
		}
		all[a] = append(all[a], n)
	}
	return all
}

// addressee is the agent whom a notice concerns; nil: none of ours. Only agents of this group are
// listened to: the relay may carry the commits of others, who may claim anything.
func (g *Group) addressee(n Notice) *Agent {
	if g.byDID[n.From] == nil {
		return nil
	}
	switch r := n.Record.(type) {
	case *lex.Result:
		author, _, _, _ := lex.Parts(r.Task)
		return g.byDID[author]
	case *lex.Message:
		return g.byDID[r.To]
	}
	return nil
}

// catchUp reads from the log what an agent has missed since the position in its memory.
func (a *Agent) catchUp(ctx context.Context) error {
	m, err := a.Memory(ctx)
	if err != nil {
		return err
	}
	e := a.g.ears
	e.mu.Lock()
	to := e.pos // from here on, what is new comes into the mailbox
	a.mu.Lock()
	a.deaf, a.heard, a.cursor = false, nil, m.Cursor
	a.mu.Unlock()
	e.mu.Unlock()
	if to <= m.Cursor {
		return nil
	}
	var missed []Notice
	heads := make(map[syntax.DID]syntax.TID)
	for event, err := range follow.Events(ctx, a.g.host.Relay.Log(), m.Cursor) {
		if err != nil {
			return err
		}
		if event.Seq > to {
			break
		}
		notices, err := e.read(ctx, event, heads)
		if err != nil {
			return err
		}
		missed = append(missed, notices[a]...)
		if event.Seq == to {
			break
		}
	}
	a.mu.Lock()
	if !a.deaf {
		a.heard = append(missed, a.heard...)
	}
	a.mu.Unlock()
	return nil
}
