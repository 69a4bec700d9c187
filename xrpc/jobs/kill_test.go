//go:build unix

package jobs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/jobs"
)

// The environment of a process that is a worker: the server, and the file of what it has done.
const (
	serverEnv = "PDSKIT_JOBS_SERVER"
	ledgerEnv = "PDSKIT_JOBS_LEDGER"
)

// TestWorkerProcess is a worker, where another test has started it.
func TestWorkerProcess(t *testing.T) {
	if os.Getenv(serverEnv) == "" {
		t.Skip("for processes that TestWorkersAreKilled starts")
	}
	ledger, err := os.OpenFile(os.Getenv(ledgerEnv), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := &jobs.Client{XRPC: &xrpc.Client{Host: os.Getenv(serverEnv), Authorize: password}, Queue: "test"}
	err = queue.Consume(context.Background(), client, queue.Consumer{Concurrency: 4, Handle: func(_ context.Context, j *queue.Job) error {
		if _, err := fmt.Fprintf(ledger, "begin %s %d\n", j.Body, os.Getpid()); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
		_, err := fmt.Fprintf(ledger, "end %s %d\n", j.Body, os.Getpid())
		return err
	}})
	t.Fatal(err) // it is killed
}

// Two processes take jobs over HTTP and are killed again and again. Every job is done; those of a key in
// their order, one at a time; and no more are begun twice than the dead had in their hands.
func TestWorkersAreKilled(t *testing.T) {
	testenv.NotOnJS(t, "programs cannot be started")
	if os.Getenv(serverEnv) != "" {
		t.Skip("this is a worker")
	}
	dir := t.TempDir()
	db, err := sqlite.Open(context.Background(), filepath.Join(dir, "jobs.sqlite"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w := serve(t, db.Store(), func(q *queue.Config, _ *jobs.Config) { q.Lease, q.Attempts = 500*time.Millisecond, 100 })
	ledger := filepath.Join(dir, "ledger")
	w.ok(os.WriteFile(ledger, nil, 0o600))
	const total, kills = 400, 6
	var list []queue.Message
	for i := range total {
		m := queue.Message{Body: fmt.Appendf(nil, "%04d", i)}
		if i%2 == 0 {
			m.Key = fmt.Sprint("key", i%10)
			m.Body = fmt.Appendf(nil, "%s-%04d", m.Key, i)
		}
		list = append(list, m)
	}
	for len(list) > 0 {
		_, err := w.client.Send(w.ctx, list[:50]...)
		w.ok(err)
		list = list[50:]
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWorkerProcess$")
		cmd.Env = append(os.Environ(), serverEnv+"="+w.url, ledgerEnv+"="+ledger)
		w.ok(cmd.Start())
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		w.ok(cmd.Process.Kill())
		_ = cmd.Wait() // it says that it was killed
	}
	// ended counts jobs that were done.
	ended := func() int {
		text, err := os.ReadFile(ledger)
		w.ok(err)
		return strings.Count(string(text), "end ")
	}
	workers := []*exec.Cmd{start(), start()}
	for n := range kills {
		testenv.Until(t, "the workers do something", func() bool { return ended() >= (n+1)*total/(kills+2) })
		kill(workers[n%2])
		workers[n%2] = start()
	}
	testenv.Until(t, "the queue is empty", func() bool {
		st, err := w.queue.Stats(w.ctx)
		w.ok(err)
		return st == (queue.Stats{})
	})
	for _, cmd := range workers {
		kill(cmd)
	}
	checkLedger(t, ledger, total, kills)
}

// checkLedger reads what workers have noted.
func checkLedger(t *testing.T, file string, total, kills int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begun, done, last := map[string]int{}, map[string]bool{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		var what, job string
		var pid int
		if _, err := fmt.Sscan(line, &what, &job, &pid); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		key, _, keyed := strings.Cut(job, "-")
		switch {
		case what == "end":
			done[job] = true
		default:
			begun[job]++
			if before := last[key]; keyed && before > job {
				t.Errorf("%s was begun after %s", job, before)
			} else if keyed && before < job && before != "" && !done[before] {
				t.Errorf("%s was begun while %s was under way", job, before)
			}
			last[key] = job
		}
	}
	again := 0
	for _, n := range begun {
		again += n - 1
	}
	if len(done) != total {
		t.Errorf("%d jobs of %d were done", len(done), total)
	}
	// A worker that dies has four jobs under way, and up to a hundred whose results it has not noted.
	if most := kills * 104; again > most {
		t.Errorf("%d jobs were begun again after %d deaths", again, kills)
	}
	t.Logf("%d jobs, %d begun again", total, again)
}
