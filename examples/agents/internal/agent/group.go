// Package agent has the agents. Each has an account: a DID, a repository, and a private memory in
// the same file. An agent does four things, each in one transaction of its account:
//
//	plan.go  its alarm is due: it posts tasks, with the jobs that belong to them
//	work.go  it has the lease of a job: it claims the task, and writes a result
//	hear.go  it receives a result of its own task: it accepts the first one
//	hear.go  it receives a message: it decrypts it, and remembers the text
//
// If it is killed, a transaction has happened or not. If not, its cause is repeated: the alarm is
// called again, the job is leased again, the log is read again from the position in the memory.
// Nothing else is needed for crash safety, and nothing is repaired at a start.
package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/queue"
)

// Config configures a Group. Host, Index and Brain are required.
type Config struct {
	Host  *host.Host
	Index *index.Index
	Brain brain.Brain
	// N is how many agents there are. 0: 5.
	N int
	// Roles are the kinds of tasks that agents do, one list after the other. The first agent plans:
	// only its alarm is set. Nil: brain.Kinds.
	Roles [][]string
	// Every is how often the planner looks whether there is something to be done. 0: 1.5 seconds.
	Every time.Duration
	// Ahead is how many of its tasks may be open when it posts another one. 0: 12.
	Ahead int64
	// Quiet: no new tasks are planned.
	Quiet bool
	// Failed is told of what went wrong and is tried again. Nil: silent.
	Failed func(error)
}

// Group is all agents of a process.
type Group struct {
	cfg     Config
	host    *host.Host
	agents  []*Agent
	byDID   map[syntax.DID]*Agent
	ears    *ears
	turn    atomic.Uint64
	buried  sync.Map        // IDs of dead jobs whose tasks have a result
	ctx     context.Context // ends when the agents are to stop
	stop    context.CancelFunc
	running sync.WaitGroup // of what the agents do

	mu   sync.Mutex
	news chan struct{} // is closed when something in Agents may have changed
}

// Agent is one agent.
type Agent struct {
	DID          syntax.DID
	Name         string
	Capabilities []string
	g            *Group

	mu     sync.Mutex
	items  []item   // what it is to do
	heard  []Notice // what it has heard and not acted on
	cursor int64    // of the memory, or before it
	deaf   bool     // heard lacks something: it has to catch up
	awake  bool     // its goroutine runs
	down   bool     // it was killed a moment ago
	doing  string
	cancel context.CancelCauseFunc // ends what it does
}

var names = []string{"Ada", "Bo", "Cai", "Dee", "Eli", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lou", "Mia", "Noor", "Ola", "Pia", "Quin", "Rui", "Sol", "Tove"}

// New makes the agents that do not exist yet.
func New(ctx context.Context, cfg Config) (*Group, error) {
	if cfg.N == 0 {
		cfg.N = 5
	}
	if cfg.Every == 0 {
		cfg.Every = 1500 * time.Millisecond
	}
	if cfg.Ahead == 0 {
		cfg.Ahead = 12
	}
	if cfg.Roles == nil {
		cfg.Roles = brain.Kinds()
	}
	if cfg.Failed == nil {
		cfg.Failed = func(error) {}
	}
	g := &Group{cfg: cfg, host: cfg.Host, byDID: make(map[syntax.DID]*Agent), news: make(chan struct{})}
	g.ears = &ears{g: g}
	g.ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := g.createAll(ctx); err != nil {
		return nil, err
	}
	for i, a := range g.agents {
		if i == 0 || a.cursor < g.ears.pos {
			g.ears.pos = a.cursor
		}
		g.byDID[a.DID] = a
	}
	return g, nil
}

// createAtOnce is how many agents are made at once: each waits for the disk several times.
const createAtOnce = 32

// createAll makes or opens the agents.
func (g *Group) createAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var making sync.WaitGroup
	places := make(chan struct{}, createAtOnce)
	for i := range g.cfg.N {
		name := names[i%len(names)]
		if i >= len(names) {
			name += fmt.Sprint(i/len(names) + 1)
		}
		a := &Agent{Name: name, Capabilities: g.cfg.Roles[i%len(g.cfg.Roles)], g: g}
		g.agents = append(g.agents, a)
		places <- struct{}{}
		making.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			err := a.create(ctx, i == 0)
			if err == nil {
				var m Memory
				if m, err = a.Memory(ctx); err == nil {
					a.cursor = m.Cursor
				}
			}
			if err != nil {
				cancel(fmt.Errorf("agent %s: %w", name, err))
			}
		})
	}
	making.Wait()
	return context.Cause(ctx)
}

// create makes the account of an agent, with its profile, its memory and its key for messages.
func (a *Agent) create(ctx context.Context, plans bool) (err error) {
	handle := syntax.Handle(lower(a.Name) + "." + host.Name)
	a.DID, err = a.g.host.Account(ctx, handle, func(did syntax.DID) (b repo.Batch, err error) {
		private, public, err := newLetterKey()
		if err != nil {
			return b, err
		}
		w, err := lex.Write(repo.Create, lex.ProfileNSID, "self", lex.Profile{Name: a.Name, Capabilities: a.Capabilities, MessageKey: public, CreatedAt: lex.Now(time.Now())})
		if err != nil {
			return b, err
		}
		memory, err := sealMemory(a.g.host.Box, did, &Memory{})
		b.Writes = []repo.Write{w}
		b.KV = []storage.KVWrite{memory, {Key: keyPlace, Value: a.g.host.Box.Seal(place(did, keyPlace), private)}}
		if plans {
			b.KV = append(b.KV, durable.SetAlarm(time.Now()))
		}
		return b, err
	})
	return err
}

// Run lets the agents live until the context ends. The Host has to run, too. It is called once.
func (g *Group) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, g.stop)()
	var parts sync.WaitGroup
	loop := func(pause time.Duration, fn func(context.Context) error) {
		parts.Go(func() {
			for ctx.Err() == nil {
				if err := fn(ctx); err != nil && ctx.Err() == nil {
					g.cfg.Failed(err)
				}
				sleep.For(ctx, pause)
			}
		})
	}
	loop(100*time.Millisecond, g.ears.run)
	loop(time.Second, g.bury)
	loop(100*time.Millisecond, func(ctx context.Context) error {
		return g.host.Queue.Consume(ctx, queue.Consumer{Handle: g.handle, Concurrency: min(len(g.agents), 64), Drain: 5 * time.Second, Timeout: time.Minute, Failed: g.cfg.Failed})
	})
	parts.Wait()
	g.stop()
	g.running.Wait()
}

func (g *Group) fail(what string, err error) {
	if g.ctx.Err() == nil {
		g.cfg.Failed(fmt.Errorf("%s: %w", what, err))
	}
}

// think asks the brain, and checks what it says.
func (g *Group) think(ctx context.Context, r brain.Request) (brain.Response, error) {
	if r.Memory == nil {
		r.Memory = map[string]string{}
	}
	answer, err := g.cfg.Brain.Think(ctx, r)
	if err == nil {
		err = answer.Check()
	}
	return answer, err
}

// about is the agent as its brain sees it.
func (a *Agent) about() brain.Agent {
	return brain.Agent{DID: string(a.DID), Name: a.Name, Capabilities: a.Capabilities}
}

func (a *Agent) can(kind string) bool { return slices.Contains(a.Capabilities, kind) }

// name is what an agent is called; of a stranger, the DID.
func (g *Group) name(did syntax.DID) string {
	if a := g.byDID[did]; a != nil {
		return a.Name
	}
	return string(did)
}

// task reads the version of a task that a reference names; nil: it is not there any more.
func (g *Group) task(ctx context.Context, ref lex.Ref) (*lex.Task, error) {
	did, collection, rkey, _ := lex.Parts(ref)
	rec, err := g.host.Repos.Record(ctx, did, collection, rkey)
	if err != nil || rec.CID.String() != string(ref.CID) {
		return nil, ignore(err)
	}
	v, err := lex.Read(collection, rkey, rec.Data)
	t, _ := v.(*lex.Task)
	return t, err
}

// letterKey reads the key that messages to an agent are encrypted with.
func (g *Group) letterKey(ctx context.Context, did syntax.DID) ([]byte, error) {
	rec, err := g.host.Repos.Record(ctx, did, lex.ProfileNSID, "self")
	if err != nil {
		return nil, err
	}
	v, err := lex.Read(lex.ProfileNSID, "self", rec.Data)
	if err != nil {
		return nil, err
	}
	return v.(*lex.Profile).MessageKey, nil
}

// found is what is known about a text.
type found struct {
	list []brain.Known
	by   map[string]lex.Ref
}

// find searches the index.
func (g *Group) find(ctx context.Context, text string) (f found, err error) {
	words := strings.Fields(clip(text, 300))
	hits, err := g.cfg.Index.Search(ctx, index.Query{Text: strings.Join(words[:min(len(words), 16)], " "), Collection: lex.ObservationNSID, Any: true, K: 5})
	if err != nil {
		return f, err
	}
	f.by = make(map[string]lex.Ref)
	for _, h := range hits {
		f.list = append(f.list, brain.Known{URI: h.URI, By: g.name(h.DID), Text: clip(h.Text, 1000)})
		f.by[h.URI] = lex.Ref{URI: syntax.ATURI(h.URI), CID: syntax.CID(h.CID)}
	}
	return f, nil
}

// refs returns the references to what an answer rests on. What the agent was not shown is left out.
func (f found) refs(uris []string) (list []lex.Ref) {
	for _, uri := range uris {
		if ref, ok := f.by[uri]; ok {
			list = append(list, ref)
		}
	}
	return list
}

// ignore drops the errors of what is not there, or not for the agent.
func ignore(err error) error {
	if errors.Is(err, repo.ErrRecordNotFound) || errors.Is(err, repo.ErrRepoNotFound) || errors.Is(err, ErrLetter) {
		return nil
	}
	return err
}
