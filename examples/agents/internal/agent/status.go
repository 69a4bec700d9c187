package agent

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Status is what an agent is like now.
type Status struct {
	DID          syntax.DID `json:"did"`
	Name         string     `json:"name"`
	Capabilities []string   `json:"capabilities"`
	State        string     `json:"state"` // "awake", "asleep" or "killed"
	Doing        string     `json:"doing,omitempty"`
	Waiting      int        `json:"waiting"` // in its mailbox
}

// changed wakes who waits for changes of agents.
func (g *Group) changed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.news)
	g.news = make(chan struct{})
}

// Changed returns a channel that is closed when the status of an agent may have changed.
func (g *Group) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.news
}

// Agents returns what all agents are like now. It reads no object, so it wakes nobody.
func (g *Group) Agents() []Status {
	list := make([]Status, len(g.agents))
	for i, a := range g.agents {
		a.mu.Lock()
		list[i] = Status{a.DID, a.Name, a.Capabilities, "asleep", a.doing, len(a.items) + len(a.heard)}
		switch {
		case a.down:
			list[i].State, list[i].Doing = "killed", ""
		case a.awake:
			list[i].State = "awake"
		}
		a.mu.Unlock()
	}
	return list
}

// Agent returns an agent by number, name or DID; nil: there is none.
func (g *Group) Agent(id string) *Agent {
	if n, err := strconv.Atoi(id); err == nil && n >= 0 && n < len(g.agents) {
		return g.agents[n]
	}
	for _, a := range g.agents {
		if a.Name == id || string(a.DID) == id {
			return a
		}
	}
	return nil
}

// Names returns the names of all agents, by DID.
func (g *Group) Names() map[syntax.DID]string {
	names := make(map[syntax.DID]string)
	for _, a := range g.agents {
		names[a.DID] = a.Name
	}
	return names
}

// Idle reports whether nothing is left to be done: each agent has accepted a result for each of its
// tasks, the queue is empty but for dead jobs, and everybody has heard everything.
func (g *Group) Idle(ctx context.Context) (bool, error) {
	st, err := g.host.Queue.Stats(ctx)
	if err != nil || st.Due+st.Later+st.Behind > 0 {
		return false, err
	}
	_, newest, err := g.host.Relay.Log().Bounds(ctx)
	if err != nil || g.ears.at() < newest {
		return false, err
	}
	if ok, err := g.cfg.Index.CaughtUp(ctx); err != nil || !ok {
		return false, err
	}
	for _, a := range g.agents {
		m, err := a.Memory(ctx)
		if err != nil || m.Accepted != m.Posted {
			return false, err
		}
		if n, ok := a.busy(); n > 0 || !ok {
			return false, nil
		}
	}
	if behind, err := g.host.Relay.Differ(ctx); err != nil || len(behind) > 0 {
		return false, err
	}
	return true, nil
}

func lower(s string) string { return strings.ToLower(s) }

// clip cuts a text to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// Forget deletes a dead job whose task has a result.
func (g *Group) Forget(ctx context.Context, id string) error {
	if _, settled := g.buried.Load(id); !settled {
		return fmt.Errorf("agent: %q is no dead job whose task has a result", id)
	}
	g.buried.Delete(id)
	return g.host.Queue.Drop(ctx, id)
}
