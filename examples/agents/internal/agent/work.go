package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
)

// handle does a job of the queue: it finds an agent that can, and lets it work. The queue leases a
// job to one handler at a time, and leases it again if the handler fails or dies. So a task may be
// worked on twice. What makes its effect happen once is the acceptance: see accept.
func (g *Group) handle(ctx context.Context, job *queue.Job) error {
	j, err := ParseJob(job.Body)
	if err != nil {
		return queue.Dead(err)
	}
	a, err := g.choose(ctx, j.Kind)
	if err != nil {
		return err
	}
	author, _, _, _ := lex.Parts(j.Task)
	err = a.do(ctx, j.Kind+" for "+g.name(author), func(ctx context.Context) error { return a.work(ctx, job, j) })
	if errors.Is(err, ErrKilled) || ctx.Err() != nil {
		return queue.ErrReleased // another agent may have it at once
	}
	return err
}

// choose returns the agent that can do a task and has the least to do. If all of them are down, it
// waits a little.
func (g *Group) choose(ctx context.Context, kind string) (*Agent, error) {
	for range 50 {
		var best *Agent
		least, some := 0, false
		start := int(g.turn.Add(1))
		for i := range g.agents {
			a := g.agents[(start+i)%len(g.agents)]
			if !a.can(kind) {
				continue
			}
			some = true
			if n, ok := a.busy(); ok && (best == nil || n < least) {
				best, least = a, n
			}
		}
		if !some {
			return nil, queue.Dead(fmt.Errorf("no agent can do %q", kind))
		}
		if best != nil {
			return best, nil
		}
		sleep.For(ctx, 100*time.Millisecond)
	}
	return nil, queue.ErrReleased
}

// work claims a task, thinks, and writes what comes of it, in one transaction: the result,
// observations, messages, further tasks with their jobs, and the memory.
func (a *Agent) work(ctx context.Context, job *queue.Job, j Job) error {
	repos := a.g.host.Repos
	author, _, rkey, _ := lex.Parts(j.Task)
	task, err := a.g.task(ctx, j.Task)
	if task == nil || err != nil {
		return err // withdrawn, or another version than the job is about
	}
	if _, err := repos.Record(ctx, author, lex.AcceptanceNSID, rkey); !errors.Is(err, repo.ErrRecordNotFound) {
		return err // it is done
	}
	key := lex.KeyFor(j.Task)
	if _, err := repos.Record(ctx, a.DID, lex.ResultNSID, key); !errors.Is(err, repo.ErrRecordNotFound) {
		return err // this agent has done it, and died before the queue knew
	}
	claim, err := lex.Write(repo.Put, lex.ClaimNSID, key, lex.Claim{Task: j.Task, Attempt: int64(job.Attempt), Until: lex.Now(job.Until), CreatedAt: lex.Now(time.Now())})
	if err != nil {
		return err
	}
	if _, err := repos.Apply(ctx, a.DID, repo.Batch{Writes: []repo.Write{claim}}); err != nil {
		return err
	}
	m, err := a.Memory(ctx)
	if err != nil {
		return err
	}
	known, err := a.g.find(ctx, task.Text)
	if err != nil {
		return err
	}
	answer, err := a.g.think(ctx, brain.Request{
		Agent: a.about(), Occasion: brain.OnTask, Memory: m.Notes, Known: known.list,
		Task: &brain.Task{URI: string(j.Task.URI), Kind: task.Kind, Text: task.Text, Attempt: job.Attempt},
	})
	if err != nil {
		return err
	}
	result := lex.Result{Task: j.Task, Status: lex.Done, Output: answer.Output, Evidence: known.refs(answer.Evidence), CreatedAt: lex.Now(time.Now())}
	if f := answer.Artifact; f != nil {
		info, err := repos.UploadBlob(ctx, a.DID, f.Type, bytes.NewReader(f.Data), brain.MaxArtifact)
		if err != nil {
			return err
		}
		result.Artifact = &data.Blob{Ref: info.CID, MIME: info.MIME, Size: info.Size}
	}
	letterKey, err := a.g.letterKey(ctx, author)
	if err != nil {
		return err
	}
	return a.change(ctx, func(m *Memory, snapshot storage.Reader) (b repo.Batch, err error) {
		if done, err := exists(ctx, snapshot, lex.ResultNSID, key); err != nil || done {
			return b, orNothing(err)
		}
		return b, a.deliver(&b, m, letterKey, result, answer)
	})
}

// deliver adds to a batch what comes of a task.
func (a *Agent) deliver(b *repo.Batch, m *Memory, letterKey []byte, result lex.Result, answer brain.Response) error {
	write := func(collection syntax.NSID, rkey syntax.RecordKey, record any) error {
		w, err := lex.Write(repo.Create, collection, rkey, record)
		b.Writes = append(b.Writes, w)
		return err
	}
	if err := write(lex.ResultNSID, lex.KeyFor(result.Task), result); err != nil {
		return err
	}
	m.Results++
	for _, o := range answer.Observe {
		err := write(lex.ObservationNSID, a.g.host.Repos.NextRecordKey(), lex.Observation{Text: o.Text, About: &result.Task, Tags: o.Tags, CreatedAt: result.CreatedAt})
		if err != nil {
			return err
		}
		m.Observed++
	}
	if author, _, _, _ := lex.Parts(result.Task); answer.Tell != "" && author != a.DID {
		rkey := a.g.host.Repos.NextRecordKey()
		encapsulated, sealed, err := sealLetter(letterKey, a.DID, author, rkey, answer.Tell)
		if err != nil {
			return err
		}
		err = write(lex.MessageNSID, rkey, lex.Message{To: author, About: result.Task, Encapsulated: encapsulated, Sealed: sealed, CreatedAt: result.CreatedAt})
		if err != nil {
			return err
		}
		m.Told++
	}
	m.remember(answer.Remember, brain.MaxMemory)
	return a.post(b, m, answer.Tasks, &result.Task)
}

// bury looks at dead jobs. What no agent has done after all attempts has failed, and that is a
// result too: the author of the task writes it and accepts it. So no task is ever without an end.
// The newest dead jobs are kept for people to look at.
func (g *Group) bury(ctx context.Context) error {
	var settled []string // the oldest first
	for dead, err := range g.host.Queue.DeadJobs(ctx) {
		if err != nil {
			return err
		}
		if _, ok := g.buried.Load(dead.ID); ok {
			settled = append(settled, dead.ID)
			continue
		}
		j, err := ParseJob(dead.Body)
		if err != nil {
			continue
		}
		author, _, rkey, _ := lex.Parts(j.Task)
		a := g.byDID[author]
		if a == nil {
			continue
		}
		err = a.do(ctx, "giving up", func(ctx context.Context) error { return a.giveUp(ctx, j.Task, rkey, dead.Error) })
		if errors.Is(err, ErrKilled) {
			continue // next time
		}
		if err != nil {
			return err
		}
		g.buried.Store(dead.ID, nil)
	}
	for _, id := range settled[:max(0, len(settled)-keptDead)] {
		if err := g.Forget(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// keptDead is how many dead jobs are kept.
const keptDead = 50

// giveUp writes and accepts the result that a task has failed, unless there is an acceptance.
func (a *Agent) giveUp(ctx context.Context, task lex.Ref, rkey syntax.RecordKey, why string) error {
	key := lex.KeyFor(task)
	return a.change(ctx, func(m *Memory, snapshot storage.Reader) (b repo.Batch, err error) {
		if there, err := exists(ctx, snapshot, lex.TaskNSID, rkey); err != nil || !there {
			return b, orNothing(err)
		}
		if done, err := exists(ctx, snapshot, lex.AcceptanceNSID, rkey); err != nil || done {
			return b, orNothing(err)
		}
		if own, err := exists(ctx, snapshot, lex.ResultNSID, key); err != nil || own {
			return b, orNothing(err) // the author's own result is on its way over the relay
		}
		now := lex.Now(time.Now())
		result, err := lex.Write(repo.Create, lex.ResultNSID, key, lex.Result{Task: task, Status: lex.Failed, Output: clip(why, 1000), CreatedAt: now})
		if err != nil {
			return b, err
		}
		ref := lex.NewRef(a.DID, lex.ResultNSID, key, data.CID(result.Record).String())
		acceptance, err := lex.Write(repo.Create, lex.AcceptanceNSID, rkey, lex.Acceptance{Task: task, Result: ref, CreatedAt: now})
		b.Writes = append(b.Writes, result, acceptance)
		m.Results++
		m.Accepted++
		m.Failed++
		return b, err
	})
}
