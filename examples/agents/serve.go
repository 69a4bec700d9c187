package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/agent"
	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/examples/agents/internal/web"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// serve is the program itself: it puts the parts together, and runs them until the context ends.
//
//	host    objects, DIDs, queue, relay
//	index   follows the relay
//	agents  live on both
//	web     shows all of it
func serve(ctx context.Context, o options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // the supervisor holds the other end: when it dies, this process ends
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	w, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	page := web.New(web.Config{Host: w.host, Index: w.index, Agents: w.agents, Address: listener.Addr().String(), Brain: o.brain})
	server := &http.Server{Handler: page, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	go server.Serve(listener)
	fmt.Println("ready", os.Getpid())
	var running sync.WaitGroup
	running.Go(func() { page.Run(ctx) })
	if o.finish {
		running.Go(func() { w.untilIdle(ctx); stop() })
	}
	w.run(ctx)
	server.Close()
	running.Wait()
	return nil
}

// world is what is open.
type world struct {
	host   *host.Host
	index  *index.Index
	agents *agent.Group
}

func open(ctx context.Context, o options) (w *world, err error) {
	w = new(world)
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	thinker, err := o.thinker()
	if err != nil {
		return w, err
	}
	alarm := func(ctx context.Context, did syntax.DID) error { return w.agents.Alarm(ctx, did) }
	if w.host, err = host.Open(ctx, host.Config{Dir: o.data, Alarm: alarm, Lease: o.lease}); err != nil {
		return w, err
	}
	if w.index, err = index.Open(ctx, filepath.Join(o.data, "index.sqlite")); err != nil {
		return w, err
	}
	w.agents, err = agent.New(ctx, agent.Config{
		Host: w.host, Index: w.index, Brain: thinker, N: o.agents, Every: o.every, Quiet: o.finish, Failed: failed,
	})
	return w, err
}

// failed prints what went wrong and is tried again.
func failed(err error) { fmt.Fprintln(os.Stderr, "agents:", err) }

// run lets everything run until the context ends.
func (w *world) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { w.host.Run(ctx, failed) })
	running.Go(func() {
		for ctx.Err() == nil {
			err := w.index.Follow(ctx, w.host.Store().Repos, w.host.Relay.Log())
			if err != nil && ctx.Err() == nil {
				failed(fmt.Errorf("index: %w", err))
			}
			sleep.For(ctx, 100*time.Millisecond)
		}
	})
	w.agents.Run(ctx)
	running.Wait()
}

// untilIdle waits until nothing is left to be done. It looks twice, since a look at many agents is
// none at one moment.
func (w *world) untilIdle(ctx context.Context) {
	for before := false; ctx.Err() == nil; {
		idle, err := w.agents.Idle(ctx)
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		if idle && before {
			return
		}
		before = idle
		sleep.For(ctx, 50*time.Millisecond)
	}
}

func (w *world) close() error {
	var errs []error
	if w.index != nil {
		errs = append(errs, w.index.Close())
	}
	if w.host != nil {
		errs = append(errs, w.host.Close())
	}
	return errors.Join(errs...)
}
