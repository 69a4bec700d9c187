package check

import (
	"context"
	"strings"

	"github.com/pdskit/pdskit/examples/agents/internal/agent"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// contents is what a repository and its namespace have, in one snapshot.
type contents struct {
	memory  agent.Memory
	letters map[string]string // by the writer's DID, a slash and the record key
	records map[string]record // by path
	count   map[syntax.NSID]int64
}

type record struct {
	cid   string
	value any
}

// read reads all agents.
func (c *checker) read(ctx context.Context) error {
	for info, err := range c.h.Repos.Repos(ctx, "") {
		if err != nil {
			return err
		}
		did := info.DID
		a := &contents{records: make(map[string]record), count: make(map[syntax.NSID]int64)}
		c.agents[did] = a
		err := c.h.Repos.View(ctx, did, func(r storage.Reader) (err error) {
			if a.memory, _, err = agent.ReadMemory(ctx, c.h.Box, did, r); err != nil {
				c.problem("the memory of %s: %v", did, err)
			}
			if a.letters, err = agent.ReadLetters(ctx, c.h.Box, did, r); err != nil {
				c.problem("the letters of %s: %v", did, err)
			}
			for rec, err := range r.Records(ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				collection, rkey, _ := strings.Cut(rec.Path, "/")
				v, err := lex.Read(syntax.NSID(collection), syntax.RecordKey(rkey), rec.Data)
				if err != nil {
					c.problem("a record of %s: %v", did, err)
					continue
				}
				a.records[rec.Path] = record{rec.CID.String(), v}
				a.count[syntax.NSID(collection)]++
			}
			return c.outbox(ctx, did, r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// outbox notes jobs that have not come to the queue yet.
func (c *checker) outbox(ctx context.Context, did syntax.DID, r storage.Reader) error {
	for pair, err := range r.Keys(ctx, storage.Prefix("outbox/")) {
		if err != nil {
			return err
		}
		c.pending("a job is in the outbox of %s", did)
		var row struct {
			Body []byte `json:"body"`
		}
		if err := data.UnmarshalJSON(pair.Value, &row); err != nil {
			return err
		}
		if j, err := agent.ParseJob(row.Body); err == nil {
			if _, there := c.jobs[key(j.Task)]; !there {
				c.jobs[key(j.Task)] = false
			}
		}
	}
	return nil
}

// tasks checks that each task has one accepted result, or what leads to one.
func (c *checker) tasks(context.Context) error {
	for _, a := range c.agents {
		for _, rec := range a.records {
			if r, ok := rec.value.(*lex.Result); ok {
				c.results[key(r.Task)]++
			}
		}
	}
	for did, a := range c.agents {
		for path, rec := range a.records {
			switch v := rec.value.(type) {
			case *lex.Task:
				c.task(did, path, rec.cid)
			case *lex.Acceptance:
				c.acceptance(did, path, v)
			}
		}
	}
	return nil
}

// task checks a task. An acceptance has the record key of the task, so there is never more than
// one.
func (c *checker) task(did syntax.DID, path, cid string) {
	c.Tasks++
	uri := "at://" + string(did) + "/" + path
	acceptance, done := c.agents[did].records[lex.AcceptanceNSID+"/"+strings.TrimPrefix(path, lex.TaskNSID+"/")]
	if !done {
		_, job := c.jobs[uri]
		if !job && c.results[uri] == 0 {
			c.problem("the task %s is lost: it has no job and no result", uri)
			return
		}
		c.pending("the task %s has no accepted result yet", uri)
		return
	}
	v := acceptance.value.(*lex.Acceptance)
	if key(v.Task) != uri || string(v.Task.CID) != cid {
		c.problem("the acceptance of %s is about another task, or another version", uri)
	}
}

// acceptance checks that an acceptance names a result that is there, and answers the task.
func (c *checker) acceptance(did syntax.DID, path string, v *lex.Acceptance) {
	if _, there := c.agents[did].records[lex.TaskNSID+"/"+strings.TrimPrefix(path, lex.AcceptanceNSID+"/")]; !there {
		c.problem("%s of %s accepts a result for a task that is not there", path, did)
	}
	by, collection, rkey, _ := lex.Parts(v.Result)
	author := c.agents[by]
	if author == nil {
		c.problem("%s of %s accepts the result of a stranger", path, did)
		return
	}
	rec := author.records[string(collection)+"/"+string(rkey)]
	r, ok := rec.value.(*lex.Result)
	if !ok || rec.cid != string(v.Result.CID) || r.Task != v.Task {
		c.problem("%s of %s accepts a result that is not there, or answers something else", path, did)
		return
	}
	if r.Status == lex.Failed {
		c.Failed++
	} else {
		c.Done++
	}
}

// memories compares what agents have counted with what is in the repositories.
func (c *checker) memories(ctx context.Context) error {
	for did, a := range c.agents {
		m := a.memory
		failed := int64(0)
		for _, rec := range a.records {
			if v, ok := rec.value.(*lex.Acceptance); ok {
				by, collection, rkey, _ := lex.Parts(v.Result)
				if other := c.agents[by]; other != nil {
					if r, ok := other.records[string(collection)+"/"+string(rkey)].value.(*lex.Result); ok && r.Status == lex.Failed {
						failed++
					}
				}
			}
		}
		for _, f := range []struct {
			what       string
			says, have int64
		}{
			{"tasks", m.Posted, a.count[lex.TaskNSID]},
			{"acceptances", m.Accepted, a.count[lex.AcceptanceNSID]},
			{"failures", m.Failed, failed},
			{"results", m.Results, a.count[lex.ResultNSID]},
			{"observations", m.Observed, a.count[lex.ObservationNSID]},
			{"messages", m.Told, a.count[lex.MessageNSID]},
			{"messages that were opened", m.Heard, int64(len(a.letters))},
		} {
			if f.says != f.have {
				c.problem("the memory of %s counts %d %s, and there are %d", did, f.says, f.what, f.have)
			}
		}
		c.Messages += int(a.count[lex.MessageNSID])
		c.Observations += int(a.count[lex.ObservationNSID])
		if err := c.letters(ctx, did, a); err != nil {
			return err
		}
	}
	return nil
}

// letters opens all messages of an agent again, and compares them with what others have heard.
func (c *checker) letters(ctx context.Context, from syntax.DID, a *contents) error {
	for path, rec := range a.records {
		v, ok := rec.value.(*lex.Message)
		if !ok {
			continue
		}
		reader := c.agents[v.To]
		if reader == nil {
			c.problem("%s of %s is for nobody here", path, from)
			continue
		}
		rkey := strings.TrimPrefix(path, lex.MessageNSID+"/")
		text, err := agent.OpenLetter(ctx, c.h, from, syntax.RecordKey(rkey), v)
		if err != nil {
			c.problem("%s of %s: %v", path, from, err)
			continue
		}
		switch got, there := reader.letters[string(from)+"/"+rkey]; {
		case !there:
			c.pending("%s of %s was not opened yet", path, from)
		case got != text:
			c.problem("%s has not kept what %s wrote", v.To, from)
		}
	}
	return nil
}
