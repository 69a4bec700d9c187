package agent

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
)

// thinks is a brain of a test.
type thinks func(context.Context, brain.Request) (brain.Response, error)

func (f thinks) Think(ctx context.Context, r brain.Request) (brain.Response, error) { return f(ctx, r) }

// town is a group that runs in the process of a test.
type town struct {
	*Group
	t    *testing.T
	host *host.Host
	ctx  context.Context
	stop func()
}

// newTown makes agents of which none plans; run starts them.
func newTown(t *testing.T, b brain.Brain, roles ...[]string) *town {
	t.Helper()
	dir := t.TempDir()
	w := &town{t: t}
	h, err := host.Open(t.Context(), host.Config{Dir: dir, Lease: time.Second, Alarm: func(ctx context.Context, did syntax.DID) error { return w.Alarm(ctx, did) }})
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(t.Context(), filepath.Join(dir, "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	w.host = h
	w.Group, err = New(t.Context(), Config{Host: h, Index: x, Brain: b, N: len(roles), Roles: roles, Quiet: true, Every: time.Hour, Failed: func(err error) { t.Log(err) }})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	w.ctx, w.stop = context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		w.stop()
		running.Wait()
		if err := errors.Join(x.Close(), h.Close()); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { h.Run(w.ctx, func(err error) { t.Log(err) }) })
	running.Go(func() { x.Follow(w.ctx, h.Store().Repos, h.Relay.Log()) })
	running.Go(func() { w.Run(w.ctx) })
	return w
}

// post lets an agent post a task.
func (w *town) post(a *Agent, kind, text string) {
	w.t.Helper()
	err := a.do(w.ctx, "posting", func(ctx context.Context) error {
		return a.change(ctx, func(m *Memory, _ storage.Reader) (b repo.Batch, err error) {
			return b, a.post(&b, m, []brain.NewTask{{Kind: kind, Text: text}}, nil)
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// idle waits until nothing is left to be done.
func (w *town) idle() {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		ok, err := w.Idle(w.ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		if ok {
			return
		}
		if time.Now().After(end) {
			w.t.Fatal("it never comes to rest")
		}
	}
}

func (w *town) count(a *Agent, collection syntax.NSID) int {
	w.t.Helper()
	page, err := w.host.Repos.List(w.ctx, a.DID, collection, repo.ListOptions{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(page)
}

func (w *town) memory(a *Agent) Memory {
	w.t.Helper()
	m, err := a.Memory(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func answer(r brain.Response) brain.Brain {
	return thinks(func(context.Context, brain.Request) (brain.Response, error) { return r, nil })
}

// TestTask: a task is posted, claimed, answered and accepted, and its author hears the message.
func TestTask(t *testing.T) {
	w := newTown(t, answer(brain.Response{Output: "42", Tell: "it was easy", Observe: []brain.Observation{{Text: "numbers are even", Tags: []string{"n"}}}, Artifact: &brain.Artifact{Type: "text/plain", Data: []byte("file")}, Remember: map[string]string{"a": "b"}}), []string{"plan"}, []string{"count"})
	ada, bo := w.agents[0], w.agents[1]
	w.post(ada, "count", "to three")
	w.idle()
	if m := w.memory(ada); m.Posted != 1 || m.Accepted != 1 || m.Failed != 0 || m.Heard != 1 {
		t.Errorf("%+v", m)
	}
	if m := w.memory(bo); m.Results != 1 || m.Told != 1 || m.Observed != 1 || m.Notes["a"] != "b" {
		t.Errorf("%+v", m)
	}
	err := w.host.Repos.View(t.Context(), ada.DID, func(r storage.Reader) error {
		letters, err := ReadLetters(t.Context(), w.host.Box, ada.DID, r)
		for _, text := range letters {
			if text != "it was easy" {
				t.Errorf("the message is %q", text)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if hits, err := w.cfg.Index.Search(t.Context(), index.Query{Text: "even numbers"}); err != nil || len(hits) == 0 || hits[0].Collection != lex.ObservationNSID {
		t.Error(hits, err)
	}
}

// TestTwoResults: two agents have done the same task. The author accepts one result, once.
func TestTwoResults(t *testing.T) {
	w := newTown(t, answer(brain.Response{Output: "done"}), []string{"plan"}, []string{"other"}, []string{"other"})
	ada := w.agents[0]
	if err := w.host.Queue.Pause(t.Context()); err != nil { // the jobs are done by hand
		t.Fatal(err)
	}
	w.post(ada, "count", "to three")
	page, err := w.host.Repos.List(t.Context(), ada.DID, lex.TaskNSID, repo.ListOptions{})
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	_, rkey, _ := strings.Cut(page[0].Path, "/")
	j := Job{Task: lex.NewRef(ada.DID, lex.TaskNSID, syntax.RecordKey(rkey), page[0].CID.String()), Kind: "count"}
	var running sync.WaitGroup
	for _, a := range w.agents[1:] {
		running.Go(func() {
			err := a.do(w.ctx, "test", func(ctx context.Context) error { return a.work(ctx, &queue.Job{Attempt: 1, Until: time.Now()}, j) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if err := w.host.Queue.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.idle() // the job itself finds no agent, and dies; the task has its result
	if n := w.count(ada, lex.AcceptanceNSID); n != 1 {
		t.Errorf("%d acceptances", n)
	}
	if m := w.memory(ada); m.Accepted != 1 || m.Failed != 0 {
		t.Errorf("%+v", m)
	}
}

// TestGivenUp: a task that nobody can do has failed, and that is accepted.
func TestGivenUp(t *testing.T) {
	w := newTown(t, answer(brain.Response{}), []string{"plan"})
	w.post(w.agents[0], "juggle", "with three")
	w.idle()
	if m := w.memory(w.agents[0]); m.Accepted != 1 || m.Failed != 1 {
		t.Errorf("%+v", m)
	}
	if st, err := w.host.Queue.Stats(t.Context()); err != nil || st.Dead != 1 {
		t.Error(st, err)
	}
	for dead, err := range w.host.Queue.DeadJobs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for w.Forget(t.Context(), dead.ID) != nil { // until the round that has accepted the failure has ended
			runtime.Gosched()
		}
	}
	if st, err := w.host.Queue.Stats(t.Context()); err != nil || st.Dead != 0 {
		t.Error(st, err)
	}
}

// TestKilled: an agent is killed while it thinks, and another one does the task.
func TestKilled(t *testing.T) {
	thinking := make(chan string, 10)
	var n atomic.Int32
	w := newTown(t, thinks(func(ctx context.Context, r brain.Request) (brain.Response, error) {
		if r.Occasion == brain.OnTask && n.Add(1) == 1 {
			thinking <- r.Agent.Name
			<-ctx.Done()
			return brain.Response{}, ctx.Err()
		}
		return brain.Response{Output: "done by " + r.Agent.Name}, nil
	}), []string{"plan"}, []string{"count"}, []string{"count"})
	w.post(w.agents[0], "count", "to three")
	w.Agent(<-thinking).Kill()
	w.agents[0].Kill()
	w.idle()
	if m := w.memory(w.agents[0]); m.Accepted != 1 || m.Failed != 0 {
		t.Errorf("%+v", m)
	}
}

// TestStrangers: what an account that is none of the agents writes is not accepted and not opened,
// though the relay passes it on.
func TestStrangers(t *testing.T) {
	w := newTown(t, answer(brain.Response{}), []string{"plan"}, []string{"count"})
	ada := w.agents[0]
	if err := w.host.Queue.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.post(ada, "count", "to three")
	page, err := w.host.Repos.List(t.Context(), ada.DID, lex.TaskNSID, repo.ListOptions{})
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	_, rkey, _ := strings.Cut(page[0].Path, "/")
	task := lex.NewRef(ada.DID, lex.TaskNSID, syntax.RecordKey(rkey), page[0].CID.String())
	now := lex.Now(time.Now())
	_, err = w.host.Account(t.Context(), "mallory."+host.Name, func(did syntax.DID) (b repo.Batch, err error) {
		result, err := lex.Write(repo.Create, lex.ResultNSID, lex.KeyFor(task), lex.Result{Task: task, Status: lex.Done, Output: "trust me", CreatedAt: now})
		if err != nil {
			return b, err
		}
		letter, err := lex.Write(repo.Create, lex.MessageNSID, w.host.Repos.NextRecordKey(), lex.Message{To: ada.DID, About: task, Encapsulated: make([]byte, 32), Sealed: make([]byte, 300), CreatedAt: now})
		b.Writes = []repo.Write{result, letter}
		return b, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.host.Queue.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.idle()
	page, err = w.host.Repos.List(t.Context(), ada.DID, lex.AcceptanceNSID, repo.ListOptions{})
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	v, err := lex.Read(lex.AcceptanceNSID, syntax.RecordKey(rkey), page[0].Data)
	if err != nil || !strings.Contains(string(v.(*lex.Acceptance).Result.URI), string(w.agents[1].DID)) {
		t.Error(v, err)
	}
	if m := w.memory(ada); m.Heard != 0 {
		t.Errorf("%+v", m)
	}
}

// TestEvidence: an answer rests on nothing that its brain was not shown.
func TestEvidence(t *testing.T) {
	f := found{by: map[string]lex.Ref{"at://a/b/c": {URI: "at://a/b/c", CID: "x"}}}
	if refs := f.refs([]string{"at://a/b/c", "at://elsewhere/b/c"}); len(refs) != 1 {
		t.Error(refs)
	}
}

// TestSync: the relay has lost commits of an agent, and says only where the repository stands. The
// results in it are heard all the same, once.
func TestSync(t *testing.T) {
	w := newTown(t, answer(brain.Response{Output: "done", Tell: "a word"}), []string{"plan"}, []string{"count"})
	ada, bo := w.agents[0], w.agents[1]
	w.post(ada, "count", "to three")
	w.idle()
	before := w.memory(ada)
	head, err := bo.g.host.Repos.Head(t.Context(), bo.DID)
	if err != nil {
		t.Fatal(err)
	}
	event := follow.Event{Seq: before.Cursor + 1000, DID: bo.DID, Message: &commit.Sync{DID: bo.DID, Rev: head.Rev}}
	notices, err := w.ears.read(t.Context(), event, map[syntax.DID]syntax.TID{})
	if err != nil || len(notices[ada]) != 2 || notices[ada][0].Upto != event.Seq-1 || notices[ada][1].Upto != event.Seq {
		t.Fatalf("%+v, %v", notices, err)
	}
	for _, n := range notices[ada] {
		if err := ada.hear(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	after := w.memory(ada)
	if after.Cursor != event.Seq || after.Accepted != before.Accepted || after.Heard != before.Heard {
		t.Errorf("%+v", after)
	}
	if notices, err := w.ears.read(t.Context(), event, map[syntax.DID]syntax.TID{bo.DID: head.Rev}); err != nil || len(notices) != 0 {
		t.Error(notices, err)
	}
}

// TestCatchUp: an agent that was down while results came reads them from the log.
func TestCatchUp(t *testing.T) {
	w := newTown(t, answer(brain.Response{Output: "done"}), []string{"plan"}, []string{"count"})
	ada := w.agents[0]
	for range 5 {
		w.post(ada, "count", "to three")
	}
	ada.kill(500 * time.Millisecond)
	w.idle()
	if m := w.memory(ada); m.Accepted != 5 || m.Failed != 0 {
		t.Errorf("%+v", m)
	}
}
