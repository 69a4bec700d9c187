//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// nodes runs several servers on one database and one bucket under mixed load, while they are
// killed, drained and paused, and checks what has become of it all. What is wrong is an error.
func nodes(ctx context.Context, opt options, out, notes io.Writer) (err error) {
	dir, err := os.MkdirTemp(opt.dir, "pds-nodes-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if opt.pds == "" {
		opt.pds = filepath.Join(dir, "pds")
		build := exec.CommandContext(ctx, "go", "build", "-o", opt.pds, "github.com/pdskit/pdskit/examples/pds")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, text)
		}
	}
	c, err := newCluster(ctx, dir, opt.pds, opt.nodes, notes)
	if err != nil {
		return err
	}
	defer c.close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.tails())
		}
	}()
	l := newLoad(c)
	if err := l.begin(ctx, opt.clients); err != nil {
		return err
	}
	live := []*reader{newReader(c, 0), newReader(c, 1%len(c.nodes))}
	work, stop := context.WithCancel(ctx)
	defer stop()
	var done sync.WaitGroup
	for _, r := range live {
		done.Go(func() { r.follow(work) })
	}
	for _, w := range l.writers {
		done.Go(func() { w.run(work) })
	}
	done.Go(func() { l.newcomers(work) })
	begin := time.Now()
	events, err := c.trouble(ctx, opt.duration)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if err := c.allUp(ctx); err != nil {
		return err
	}
	l.settle(ctx)
	stop()
	done.Wait()
	found, err := l.examine(ctx, live)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d nodes, one PostgreSQL, one bucket; %d accounts that write; %.0f s. A lease lasts %s.\n\n", len(c.nodes), len(l.writers), took.Seconds(), nodeLease)
	fmt.Fprintf(out, "| what happened | |\n|---|---|\n")
	for _, row := range append(events.rows(), append(l.rows(), found...)...) {
		fmt.Fprintf(out, "| %s | %s |\n", row[0], row[1])
	}
	return nil
}

// troubles are what was done to nodes and database.
type troubles struct {
	killed, drained, paused, database int
	takeovers                         int // of leases, from paused nodes
	longest                           time.Duration
	inFlight                          int
}

func (x *troubles) rows() [][2]string {
	return [][2]string{
		{"nodes killed (-9) and started again", fmt.Sprint(x.killed)},
		{"nodes drained and started again", fmt.Sprint(x.drained)},
		{"nodes paused for longer than their leases and timeouts", fmt.Sprintf("%d, the longest for %.1f s, with %d requests under way", x.paused, x.longest.Seconds(), x.inFlight)},
		{"leases that other nodes took from paused ones, with a greater token", fmt.Sprint(x.takeovers)},
		{"PostgreSQL killed and started again", fmt.Sprint(x.database)},
	}
}

// trouble kills, drains and pauses one node after the other, for a time.
func (c *cluster) trouble(ctx context.Context, d time.Duration) (*troubles, error) {
	x := &troubles{}
	end := time.Now().Add(d)
	half := time.Now().Add(d / 2)
	kinds := []func(context.Context, *troubles) error{c.killOne, c.pauseLeader, c.drainOne, c.pauseAny}
	for i := 0; ; i++ {
		if x.database == 0 && time.Now().After(half) {
			c.note("PostgreSQL is killed")
			c.pg.Kill()
			sleep.For(ctx, time.Second)
			if err := c.pg.Restart(); err != nil {
				return nil, err
			}
			x.database++
		}
		if rest := time.Until(end); rest < 0 && i >= len(kinds) {
			return x, nil
		}
		if err := kinds[i%len(kinds)](ctx, x); err != nil {
			return nil, err
		}
		if err := c.allUp(ctx); err != nil {
			return nil, err
		}
		sleep.For(ctx, min(2*time.Second, max(0, time.Until(end))))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (c *cluster) any() *member { return c.nodes[rand.IntN(len(c.nodes))] }

func (c *cluster) killOne(ctx context.Context, x *troubles) error {
	m := c.any()
	c.note("%s is killed", m.id)
	m.kill()
	x.killed++
	sleep.For(ctx, time.Second)
	return m.start(ctx)
}

func (c *cluster) drainOne(ctx context.Context, x *troubles) error {
	m := c.any()
	c.note("%s is drained", m.id)
	if err := m.drain(); err != nil {
		return err
	}
	x.drained++
	return m.start(ctx)
}

// pauseLeader pauses the node that tidies the store until another one does.
func (c *cluster) pauseLeader(ctx context.Context, x *troubles) error {
	name, token, err := c.maintenance.Holder(ctx)
	if err != nil || name == "" {
		return c.pauseAny(ctx, x) // nobody leads just now
	}
	var m *member
	for _, n := range c.nodes {
		if n.id == name {
			m = n
		}
	}
	return c.pause(ctx, x, m, func() error {
		for begin := time.Now(); ; sleep.For(ctx, 50*time.Millisecond) {
			other, next, err := c.maintenance.Holder(ctx)
			if err == nil && other != "" && other != name && next > token {
				x.takeovers++
				return nil
			}
			if time.Since(begin) > time.Minute || ctx.Err() != nil {
				return errors.Join(fmt.Errorf("nobody takes the lease of %s, which is paused", name), err, ctx.Err())
			}
		}
	})
}

func (c *cluster) pauseAny(ctx context.Context, x *troubles) error {
	return c.pause(ctx, x, c.any(), func() error { return nil })
}

// pause stops a node's process for longer than its lease and the timeouts of the database, and
// until something has happened.
func (c *cluster) pause(ctx context.Context, x *troubles, m *member, until func() error) error {
	c.note("%s is paused", m.id)
	begin := time.Now()
	x.inFlight += m.stop()
	err := until()
	sleep.For(ctx, 2*nodeLease-time.Since(begin))
	took := time.Since(begin)
	m.goOn()
	x.paused++
	x.longest = max(x.longest, took)
	c.note("%s goes on after %.1f s", m.id, took.Seconds())
	return err
}

// tails are the ends of the nodes' logs.
func (c *cluster) tails() string {
	var b strings.Builder
	for _, m := range c.nodes {
		text, _ := os.ReadFile(filepath.Join(m.dir, "log"))
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&b, "%s:\n%s\n", m.id, strings.Join(lines[max(0, len(lines)-8):], "\n"))
	}
	return b.String()
}
