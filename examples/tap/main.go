// Tap gives an application the records of accounts as JSON: the existing ones, and then every
// change.
//
//	go run ./examples/tap
//
// It has the HTTP and WebSocket interface of indigo's tap, and uses package indexer. See README.md.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"       // registers "pgx"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"

	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/limit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "tap:", err)
		os.Exit(1)
	}
}

// run serves until the context ends.
func run(ctx context.Context, args []string, env func(string) string, out, errs io.Writer) error {
	o, err := parse(args, env, errs)
	if err != nil {
		return err
	}
	set := o.settings(slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: o.level})))
	for _, name := range ignored {
		if env(name) != "" {
			set.log.Warn("this setting has no meaning here", "name", name)
		}
	}
	l, err := net.Listen("tcp", o.bind)
	if err != nil {
		return err
	}
	defer l.Close()
	if o.metrics != "" {
		if set.metrics, err = net.Listen("tcp", o.metrics); err != nil {
			return fmt.Errorf("-metrics-listen: %w", err)
		}
		defer set.metrics.Close()
	}
	fmt.Fprintf(out, "tap: http://%s\n", l.Addr())
	return serve(ctx, l, set)
}

// app is a tap that runs.
type app struct {
	set     *settings
	ctx     context.Context // ends when sockets are to end
	sink    *sink
	out     *outbox
	ix      *indexer.Indexer
	meters  *meters
	sockets atomic.Int64
}

// open opens the database.
func open(ctx context.Context, set *settings) (*app, error) {
	db, err := sql.Open(set.driver, set.dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(set.conns)
	s, err := newSink(ctx, db, set.driver == "pgx")
	if err != nil {
		db.Close()
		return nil, err
	}
	a := &app{set: set, ctx: ctx, sink: s, out: newOutbox(s, set.capacity, set.timeout, set.log)}
	a.meters = a.out.meters
	s.out, s.wanted, s.filter = a.out, set.wanted, set.collection
	s.all, s.signals = set.scope.All, len(set.scope.Signal) > 0 && !set.scope.All
	if err := s.open(ctx); err != nil {
		a.close()
		return nil, err
	}
	a.ix = &indexer.Indexer{
		Sources: []indexer.Source{set.source}, Scope: set.scope, Sink: s, Identity: set.identity, Handles: true,
		HTTP: set.http, Hosts: set.hosts, Workers: set.workers, Fetches: set.fetches, Fetched: a.meters.fetched, Log: set.log, Now: set.now,
	}
	a.meters.watch(a)
	if set.noReplay && !set.outboxOnly {
		if err := a.forgetPosition(ctx); err != nil {
			a.close()
			return nil, err
		}
	}
	return a, nil
}

// forgetPosition has the indexer follow the stream from what comes next.
func (a *app) forgetPosition(ctx context.Context) error {
	u, err := url.Parse(a.set.source.Relay)
	if err != nil {
		return err
	}
	return a.sink.Apply(ctx, &indexer.Transaction{Positions: map[string]string{u.Scheme + "://" + u.Host: ""}})
}

func (a *app) close() error { return errors.Join(a.sink.Close(), a.sink.DB.Close()) }

// serve runs a tap until the context ends.
func serve(ctx context.Context, l net.Listener, set *settings) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	a, err := open(ctx, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	srv := &http.Server{Handler: a.handler(), ReadTimeout: time.Minute, WriteTimeout: 5 * time.Minute, ErrorLog: slog.NewLogLogger(set.log.Handler(), slog.LevelWarn)}
	limit.Harden(srv)
	var running sync.WaitGroup
	var failed error
	var once sync.Once
	end := func(err error) {
		once.Do(func() { failed = err })
		stop()
	}
	running.Go(func() { a.out.run(ctx) })
	running.Go(func() { a.out.watch(ctx) })
	if set.webhook != "" {
		running.Go(func() { (&webhook{app: a}).run(ctx) })
	}
	if !set.outboxOnly {
		running.Go(func() {
			if err := a.ix.Run(ctx); ctx.Err() == nil {
				end(err)
			}
		})
	}
	serveOn := func(srv *http.Server, l net.Listener) {
		running.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				end(err)
			}
		})
	}
	serveOn(srv, l)
	if set.metrics != nil {
		more := &http.Server{Handler: a.metricsHandler(), ErrorLog: srv.ErrorLog}
		limit.Harden(more)
		serveOn(more, set.metrics)
		context.AfterFunc(ctx, func() { more.Close() })
	}
	<-ctx.Done()
	limited, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	srv.Shutdown(limited)
	srv.Close()
	running.Wait()
	return failed
}
