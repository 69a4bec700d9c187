package agent

import (
	"context"
	"errors"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/queue"
)

// Alarm answers the alarm of an agent: it asks the brain what is to be done, and posts that. Tasks,
// jobs and the next alarm are one transaction, so an alarm that is called twice is answered once.
func (g *Group) Alarm(ctx context.Context, did syntax.DID) error {
	a := g.byDID[did]
	if a == nil {
		return nil
	}
	return a.do(ctx, "planning", a.tick)
}

func (a *Agent) tick(ctx context.Context) error {
	m, err := a.Memory(ctx)
	if err != nil {
		return err
	}
	next := durable.SetAlarm(time.Now().Add(a.g.cfg.Every))
	var answer brain.Response
	if !a.g.cfg.Quiet && m.Posted-m.Accepted < a.g.cfg.Ahead {
		answer, err = a.g.think(ctx, brain.Request{Agent: a.about(), Occasion: brain.OnTick, Tick: m.Ticks, Memory: m.Notes})
		if err != nil {
			return err
		}
	}
	before := m.Ticks
	return a.change(ctx, func(m *Memory, _ storage.Reader) (b repo.Batch, err error) {
		if m.Ticks != before { // another call of the same alarm was faster
			return b, errNothing
		}
		b.KV = append(b.KV, next)
		if len(answer.Tasks) > 0 {
			m.Ticks++
		}
		m.remember(answer.Remember, brain.MaxMemory)
		return b, a.post(&b, m, answer.Tasks, nil)
	})
}

// post adds tasks to a batch, and the job that belongs to each: in the account's outbox, from where
// it comes to the queue. A task exists if, and only if, its job has been sent or will be.
func (a *Agent) post(b *repo.Batch, m *Memory, tasks []brain.NewTask, parent *lex.Ref) error {
	for _, t := range tasks {
		rkey := a.g.host.Repos.NextRecordKey()
		w, err := lex.Write(repo.Create, lex.TaskNSID, rkey, lex.Task{Kind: t.Kind, Text: t.Text, Parent: parent, CreatedAt: lex.Now(time.Now())})
		if err != nil {
			return err
		}
		job := Job{Task: lex.NewRef(a.DID, lex.TaskNSID, rkey, data.CID(w.Record).String()), Kind: t.Kind}
		body, err := data.MarshalJSON(job)
		if err != nil {
			return err
		}
		out, err := a.g.host.Outbox.Write(queue.Message{ID: string(rkey), Body: body})
		if err != nil {
			return err
		}
		b.Writes, b.KV = append(b.Writes, w), append(b.KV, out)
		m.Posted++
	}
	return nil
}

// Job is what lies in the queue.
type Job struct {
	Task lex.Ref `json:"task"`
	Kind string  `json:"kind"`
}

// ParseJob reads the body of a job.
func ParseJob(body []byte) (j Job, err error) {
	if err := data.UnmarshalJSON(body, &j); err != nil {
		return j, err
	}
	if _, _, _, ok := lex.Parts(j.Task); !ok {
		return j, errors.New("agent: a job without a task")
	}
	return j, nil
}
