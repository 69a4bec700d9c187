package storagetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// processDir is the environment variable that tells a process started by RunProcesses
// where to write, and as which process.
const processDir, processName = "PDSKIT_STORAGETEST_PROCESS_DIR", "PDSKIT_STORAGETEST_PROCESS_NAME"

const sharedDID = syntax.DID("did:web:shared.example")

// RunProcesses checks a backend that several processes may have open. Two processes write to one
// account concurrently, each from what it has read, until each has made the given number of steps.
// Both must make progress, no step may be lost or undone, and the log must have each once. With
// -short, steps is at most 20.
//
// It must be the only content of a top-level test, with a backend that is neither volatile nor
// exclusive.
func RunProcesses(t *testing.T, b Backend, steps int) {
	if dir := os.Getenv(processDir); dir != "" {
		s, closeIt := b.Open(t, dir)
		if err := writeShared(s, os.Getenv(processName), os.Stdin, os.Stdout); err != nil {
			t.Error(err)
		}
		if err := closeIt(); err != nil {
			t.Error(err)
		}
		return
	}
	if testing.Short() {
		steps = min(steps, 20)
	}
	processes(t, b, steps)
}

// process is one of the processes.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
	log   strings.Builder
	acks  map[int64]int // sequence number to step
}

func processes(tb testing.TB, b Backend, steps int) {
	e := newEnv(tb, b, 0)
	e.write(newAccount(sharedDID), note("counter", "0"))
	exe, err := os.Executable()
	e.ok(err, "executable")
	var list []*process
	for _, name := range []string{"one", "two"} {
		p := &process{name: name, cmd: exec.Command(exe, "-test.run=^"+tb.Name()+"$", "-test.v"), acks: map[int64]int{}}
		p.cmd.Env = append(os.Environ(), processDir+"="+e.dir, processName+"="+name)
		p.cmd.Stderr = &p.log
		out, err := p.cmd.StdoutPipe()
		e.ok(err, "pipe")
		p.lines = bufio.NewScanner(out)
		p.stdin, err = p.cmd.StdinPipe()
		e.ok(err, "pipe")
		e.ok(p.cmd.Start(), "start a process")
		list = append(list, p)
	}
	reached, ended := make(chan *process), make(chan error)
	for _, p := range list {
		go func() { ended <- p.read(steps, func() { reached <- p }) }()
	}
	left := len(list)
	for n := 0; n < len(list) && left == len(list); {
		select {
		case <-reached:
			n++
		case err := <-ended: // before its time
			e.Errorf("a process ended by itself: %v", err)
			left--
		}
	}
	for _, p := range list {
		_ = p.stdin.Close()
	}
	for left > 0 {
		select {
		case <-reached:
		case err := <-ended:
			if err != nil {
				e.Error(err)
			}
			left--
		}
	}
	examineShared(e, list)
}

// read takes in what a process says until it ends, and calls reached when it has made steps.
func (p *process) read(steps int, reached func()) error {
	text := ""
	for p.lines.Scan() {
		var step int
		var seq int64
		if n, _ := fmt.Sscanf(p.lines.Text(), "stored %d %d", &step, &seq); n != 2 {
			text += p.lines.Text() + "\n"
			continue
		}
		if p.acks[seq] = step; len(p.acks) == steps {
			reached()
		}
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("process %s: %w\n%s%s", p.name, err, text, p.log.String())
	}
	return nil
}

// examineShared compares what is stored with what the processes have said.
func examineShared(e *env, list []*process) {
	acks := map[int64]int{}
	total := 0
	for _, p := range list {
		total += len(p.acks)
		for seq, step := range p.acks {
			acks[seq] = step
		}
		e.Logf("process %s: %d steps", p.name, len(p.acks))
	}
	if len(acks) != total {
		e.Errorf("%d steps have %d different numbers", total, len(acks))
	}
	step, last := 0, int64(0)
	for _, ev := range e.events(0) {
		if ev.Kind != commit.KindCommit {
			continue
		}
		if step > 0 && acks[ev.Seq] != step { // the first is ours
			e.Errorf("event %d is that of step %d, but step %d was acknowledged with it", ev.Seq, step, acks[ev.Seq])
		}
		if ev.Seq <= last {
			e.Errorf("event %d comes after %d", ev.Seq, last)
		}
		step, last = step+1, ev.Seq
	}
	if step != total+1 {
		e.Errorf("%d steps are in the log, %d were acknowledged", step-1, total)
	}
	e.view(sharedDID, func(r storage.Reader) {
		rec, err := r.Record(e.ctx, path("counter"))
		e.ok(err, "Record")
		e.same(string(rec.Data), string(note("counter", fmt.Sprint(total)).record), "the counter after %d steps", total)
	})
	if err := CheckStore(e.ctx, e.Store, Options{Key: keyOf}); err != nil {
		e.Errorf("check of the whole store: %v", err)
	}
}

// writeShared counts the counter up, and notes it in a record of its own, until in ends.
func writeShared(s storage.Store, name string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	for ctx.Err() == nil {
		ctx := context.Background() // a step is not broken off
		a, err := loadAccount(ctx, s, sharedDID)
		if err != nil {
			return err
		}
		step := 0
		err = s.Repos.View(ctx, sharedDID, func(r storage.Reader) error {
			b, err := r.Get(ctx, "step")
			if err == nil {
				_, err = fmt.Sscan(string(b), &step)
			} else if errors.Is(err, storage.ErrNotFound) {
				err = nil
			}
			if err == nil && r.Head() != a.head {
				err = storage.ErrConflict
			}
			return err
		})
		if errors.Is(err, storage.ErrConflict) {
			continue
		} else if err != nil {
			return err
		}
		step++
		st := a.change(note("counter", fmt.Sprint(step)), note(name, fmt.Sprint(step)))
		st.KV = []storage.KVWrite{{Key: "step", Value: fmt.Append(nil, step)}}
		seq, err := s.Repos.Apply(ctx, sharedDID, &st.Change)
		if errors.Is(err, storage.ErrConflict) {
			continue
		} else if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "stored %d %d\n", step, seq); err != nil {
			return err
		}
	}
	return nil
}
