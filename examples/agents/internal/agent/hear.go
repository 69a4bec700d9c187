package agent

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// hear acts on a notice. The position in the memory moves in the same transaction, so an agent acts
// on everything that concerns it exactly once, whenever it dies.
func (a *Agent) hear(ctx context.Context, n Notice) (err error) {
	switch r := n.Record.(type) {
	case *lex.Result:
		err = a.accept(ctx, n, r)
	case *lex.Message:
		err = a.receive(ctx, n, r)
	}
	if err == nil {
		a.mu.Lock()
		a.cursor = max(a.cursor, n.Upto)
		a.mu.Unlock()
	}
	return err
}

// accept takes a result for a task of the agent's own, if it is the first one. The acceptance is
// made under the task's record key, on condition that there is none, together with the count in the
// memory: this is the moment in which the task is done, and there is one such moment for each task.
func (a *Agent) accept(ctx context.Context, n Notice, r *lex.Result) error {
	_, _, rkey, _ := lex.Parts(r.Task)
	return a.change(ctx, func(m *Memory, snapshot storage.Reader) (b repo.Batch, err error) {
		m.Cursor = max(m.Cursor, n.Upto)
		task, err := repo.Record(ctx, snapshot, lex.TaskNSID, rkey)
		if err != nil || task.CID.String() != string(r.Task.CID) {
			return b, ignore(err) // not about a task as it is here
		}
		done, err := exists(ctx, snapshot, lex.AcceptanceNSID, rkey)
		if err != nil || done {
			return b, err // the first result counts
		}
		w, err := lex.Write(repo.Create, lex.AcceptanceNSID, rkey, lex.Acceptance{Task: r.Task, Result: n.ref(), CreatedAt: lex.Now(time.Now())})
		if err != nil {
			return b, err
		}
		b.Writes = append(b.Writes, w)
		if m.Accepted++; r.Status != lex.Done {
			m.Failed++
		}
		return b, nil
	})
}

// receive opens a message and keeps its text, sealed.
func (a *Agent) receive(ctx context.Context, n Notice, letter *lex.Message) error {
	text, err := a.open(ctx, n.From, n.RKey, letter)
	if err != nil {
		// Not for this agent, whatever it says. The position need not move for it.
		return ignore(err)
	}
	m, err := a.Memory(ctx)
	if err != nil {
		return err
	}
	answer, err := a.g.think(ctx, brain.Request{
		Agent: a.about(), Occasion: brain.OnMessage, Memory: m.Notes,
		Message: &brain.Message{From: a.g.name(n.From), Text: text},
	})
	if err != nil && ctx.Err() != nil {
		return err
	}
	key := heardPlace + string(n.From) + "/" + string(n.RKey)
	return a.change(ctx, func(m *Memory, snapshot storage.Reader) (b repo.Batch, err error) {
		m.Cursor = max(m.Cursor, n.Upto)
		if _, err := snapshot.Get(ctx, key); err == nil {
			return b, nil // it came again
		}
		m.Heard++
		m.remember(answer.Remember, brain.MaxMemory)
		b.KV = append(b.KV, storage.KVWrite{Key: key, Value: a.g.host.Box.Seal(place(a.DID, key), []byte(text))})
		return b, nil
	})
}
