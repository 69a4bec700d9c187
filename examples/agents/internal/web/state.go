package web

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/agents/internal/agent"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/follow"
)

// state is what a page shows besides the stream.
type state struct {
	PID     int            `json:"pid"`
	Brain   string         `json:"brain"`
	Total   int            `json:"total"` // agents
	Agents  []agentState   `json:"agents"`
	Objects int            `json:"objects"` // that are open
	Counts  map[string]int `json:"counts"`  // tasks by state
	Tasks   []index.Task   `json:"tasks"`
	Queue   queueState     `json:"queue"`
	Dead    []deadLetter   `json:"dead"`
	Relay   int64          `json:"relay"` // the newest number in its log
	Index   int64          `json:"index"` // up to where the index is
}

type agentState struct {
	agent.Status
	Rev syntax.TID `json:"rev"`
}

type queueState struct {
	Due   int `json:"due"`
	Later int `json:"later"` // are leased or wait for another attempt
	Dead  int `json:"dead"`
}

type deadLetter struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"`
}

const (
	shownAgents = 60
	shownTasks  = 14
	shownDead   = 5
)

func (s *Server) state(ctx context.Context) (*state, error) {
	all := s.cfg.Agents.Agents()
	st := &state{PID: os.Getpid(), Brain: s.cfg.Brain, Total: len(all), Objects: s.cfg.Host.Objects().Open, Dead: []deadLetter{}}
	revs, err := s.cfg.Index.Revs(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range all[:min(len(all), shownAgents)] {
		st.Agents = append(st.Agents, agentState{a, revs[a.DID]})
	}
	if st.Counts, err = s.cfg.Index.Counts(ctx); err != nil {
		return nil, err
	}
	if st.Tasks, err = s.cfg.Index.Tasks(ctx, shownTasks); err != nil {
		return nil, err
	}
	q, err := s.cfg.Host.Queue.Stats(ctx)
	if err != nil {
		return nil, err
	}
	st.Queue = queueState{q.Due, q.Later + q.Behind, q.Dead}
	for d, err := range s.cfg.Host.Queue.DeadJobs(ctx) {
		if err != nil {
			return nil, err
		}
		j, _ := agent.ParseJob(d.Body)
		st.Dead = append(st.Dead, deadLetter{d.ID, j.Kind, d.Attempts, d.Error})
		if len(st.Dead) == shownDead {
			break
		}
	}
	if _, st.Relay, err = s.cfg.Host.Relay.Log().Bounds(ctx); err != nil {
		return nil, err
	}
	st.Index, err = s.cfg.Index.Seq(ctx)
	return st, err
}

// line is an event of the relay as a page shows it.
type line struct {
	Seq  int64      `json:"seq"`
	Time string     `json:"time"`
	DID  syntax.DID `json:"did"`
	By   string     `json:"by"`
	Kind string     `json:"kind"` // "commit", "identity", …
	Ops  []op       `json:"ops"`
}

type op struct {
	Action     commit.Action `json:"action"`
	Collection string        `json:"collection"` // without its prefix
	Text       string        `json:"text"`
	To         syntax.DID    `json:"to,omitempty"` // whom it concerns
	Name       string        `json:"name,omitempty"`
}

func short(c syntax.NSID) string { return strings.TrimPrefix(string(c), lex.Prefix) }

func (s *Server) line(e follow.Event) line {
	names := s.cfg.Agents.Names()
	l := line{Seq: e.Seq, Time: e.Time.UTC().Format(time.RFC3339), DID: e.DID, By: names[e.DID], Ops: []op{}}
	switch e.Message.(type) {
	case *commit.Event:
		l.Kind = "commit"
	case *commit.Identity:
		l.Kind = "identity"
	case *commit.Account:
		l.Kind = "account"
	case *commit.Sync:
		l.Kind = "sync"
	}
	for _, o := range e.Ops {
		p := op{Action: o.Action, Collection: short(o.Collection)}
		if v, err := lex.Read(o.Collection, o.RKey, o.Record); err == nil {
			p.Text, p.To = describe(v)
			p.Name = names[p.To]
		}
		l.Ops = append(l.Ops, p)
	}
	return l
}

// describe says what a record is about, and whom it concerns.
func describe(v any) (text string, to syntax.DID) {
	author := func(r lex.Ref) syntax.DID { did, _, _, _ := lex.Parts(r); return did }
	switch r := v.(type) {
	case *lex.Profile:
		return strings.Join(r.Capabilities, ", "), ""
	case *lex.Task:
		return r.Kind + ": " + clip(r.Text), ""
	case *lex.Claim:
		if r.Attempt > 1 {
			return "attempt " + itoa(r.Attempt), author(r.Task)
		}
		return "", author(r.Task)
	case *lex.Result:
		return clip(r.Output), author(r.Task)
	case *lex.Acceptance:
		return "", author(r.Result)
	case *lex.Observation:
		return clip(r.Text), ""
	case *lex.Message:
		return "sealed, " + itoa(int64(len(r.Sealed))) + " bytes", r.To
	}
	return "", ""
}

func clip(s string) string {
	r := []rune(s)
	if len(r) <= 90 {
		return s
	}
	return string(r[:89]) + "…"
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
