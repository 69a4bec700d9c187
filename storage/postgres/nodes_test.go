//go:build unix

package postgres_test

import (
	"bufio"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/postgres"
)

// Environment of a process that TestNodes starts.
const nodeDir, nodeName = "PDSKIT_TEST_NODE_DIR", "PDSKIT_TEST_NODE_NAME"

const nodeAccounts = 4

// node is a process that writes.
type node struct {
	cmd    *osexec.Cmd
	done   chan struct{}
	stderr strings.Builder
}

// Three processes write to the same accounts. One after another is paused for longer than every
// timeout, and goes on; now and then one is killed and started again. The others go on meanwhile. In
// the end all is there that was acknowledged, as seen from two nodes: under the same numbers, each
// once, and each commit follows from the one before it.
func TestNodes(t *testing.T) {
	if dir := os.Getenv(nodeDir); dir != "" {
		runNode(t, dir, os.Getenv(nodeName))
		return
	}
	url, dir := pgtest.URL(t), t.TempDir()
	one, two := open(t, url, dir, impatient), open(t, url, dir, impatient)
	defer one.Close()
	defer two.Close()
	host := newHost(t, one.Store())
	for i := range nodeAccounts {
		if _, err := host.Create(testContext, didOf(i), repo.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	a := &acks{list: map[int64]syntax.DID{}, fail: map[string]int{}}
	nodes := make([]*node, 3)
	for i := range nodes {
		nodes[i] = startNode(t, a, dir, fmt.Sprint("node", i))
	}
	progress := func() {
		t.Helper()
		n := a.count()
		testenv.Until(t, "steps", func() bool { return a.count() > n+30 })
	}
	progress()
	for i := range 6 {
		n := nodes[i%3]
		if i%2 == 0 {
			signal(t, n, syscall.SIGSTOP)
			paused := time.Now()
			progress() // of the others
			time.Sleep(max(0, time.Second-time.Since(paused)))
			signal(t, n, syscall.SIGCONT)
			continue
		}
		signal(t, n, syscall.SIGKILL)
		<-n.done
		progress()
		nodes[i%3] = startNode(t, a, dir, fmt.Sprint("node", i%3))
	}
	progress()
	for _, n := range nodes {
		signal(t, n, syscall.SIGKILL)
		<-n.done
	}
	a.examine(t, one, two)
}

func signal(t *testing.T, n *node, sig syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%v: %v\n%s", sig, err, n.stderr.String())
	}
}

func startNode(t *testing.T, a *acks, dir, name string) *node {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cmd: osexec.Command(exe, "-test.run=^TestNodes$", "-test.v"), done: make(chan struct{})}
	n.cmd.Env = append(os.Environ(), nodeDir+"="+dir, nodeName+"="+name)
	n.cmd.Stderr = &n.stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.cmd.Process.Kill() })
	go func() {
		defer close(n.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var did syntax.DID
			var seq int64
			a.mu.Lock()
			if k, _ := fmt.Sscanf(lines.Text(), "stored %s %d", &did, &seq); k == 2 {
				if other, found := a.list[seq]; found {
					t.Errorf("number %d was given to %s and %s", seq, other, did)
				}
				a.list[seq] = did
			} else if text, found := strings.CutPrefix(lines.Text(), "error "); found {
				a.fail[text]++
			}
			a.mu.Unlock()
		}
		_ = n.cmd.Wait()
	}()
	return n
}

// runNode writes until it is killed.
func runNode(t *testing.T, dir, name string) {
	db := open(t, pgtest.URL(t), dir, postgres.Config{Timeout: impatient.Timeout, Poll: impatient.Poll})
	host := newHost(t, db.Store())
	for i := range nodeAccounts {
		go func() {
			for n := 0; ; n++ {
				res, err := host.Apply(testContext, didOf(i), post(fmt.Sprint(name, n%20), fmt.Sprint(name, " ", time.Now().UnixNano())))
				if err != nil {
					fmt.Printf("error %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
				} else {
					fmt.Printf("stored %s %d\n", didOf(i), res.Seq)
				}
			}
		}()
	}
	select {}
}
