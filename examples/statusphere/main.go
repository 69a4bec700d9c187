// Statusphere shows everybody's status: one emoji each, stored in everybody's own repository.
//
//	go run ./examples/statusphere
//
// starts it with its own PDS and did:plc directory, so it needs nothing else. With -relay or
// -jetstream it shows the statuses of the whole network. See README.md.
package main

import (
	"cmp"
	"context"
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
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/dev"
	"github.com/pdskit/pdskit/examples/statusphere/internal/source"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "statusphere:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	listen, data, pds, relay, jetstream, publicURL, key, plc string
	local, verbose                                           bool
}

func parse(args []string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("statusphere", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "the `address` of the app")
	f.StringVar(&o.data, "data", "statusphere-data", "the `folder` for databases and secrets")
	f.StringVar(&o.pds, "pds", "localhost:2583", "the `address` of the PDS in this process, if there is one")
	f.StringVar(&o.relay, "relay", "", "follow a relay or PDS at this `URL`, and start no PDS")
	f.StringVar(&o.jetstream, "jetstream", "", "follow a Jetstream at this `URL` instead, which is not verified")
	f.StringVar(&o.publicURL, "public-url", "", "the `URL` of the app on the web, as https://status.example.com")
	f.StringVar(&o.key, "client-key", "", "a `file` with the key of a confidential client; made if there is none")
	f.StringVar(&o.plc, "plc", "", "the `URL` of another did:plc directory than the public one")
	f.BoolVar(&o.local, "local", false, "allow plain HTTP in these flags and, without -public-url, servers on this machine: for development")
	f.BoolVar(&o.verbose, "verbose", false, "also log what anybody in the network can cause")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(f.NArg())
}

// check returns what does not fit together.
func (o *options) check(rest int) error {
	host, _, err := net.SplitHostPort(o.listen)
	switch {
	case rest > 0:
		return errors.New("there are only flags; see -help")
	case err != nil:
		return fmt.Errorf("-listen: %w", err)
	case o.relay != "" && o.jetstream != "":
		return errors.New("either -relay or -jetstream")
	case o.publicURL != "" && o.own():
		return errors.New("-public-url needs -relay or -jetstream: the PDS in this process is for this machine only")
	case o.key != "" && o.publicURL == "":
		return errors.New("-client-key needs -public-url: servers fetch the public key from there")
	case o.publicURL == "" && host != "127.0.0.1":
		return errors.New("-listen: without -public-url, the app is for this machine only: listen on 127.0.0.1")
	}
	for name, text := range map[string]string{"-relay": o.relay, "-jetstream": o.jetstream, "-public-url": o.publicURL, "-plc": o.plc} {
		u, err := url.Parse(text)
		scheme := map[string]string{"wss": "https", "ws": "http"}[cmp.Or(u, &url.URL{}).Scheme]
		switch {
		case text == "":
		case err != nil || u.Host == "":
			return fmt.Errorf("%s: %q is no URL", name, text)
		case name == "-public-url" && (u.Scheme != "https" || u.Path != "" || u.RawQuery != ""):
			return errors.New("-public-url is https:// and a host, with nothing after it")
		case u.Scheme != "https" && scheme != "https" && !o.local:
			return fmt.Errorf("%s: %s is not encrypted; -local allows that", name, text)
		}
	}
	return nil
}

// own reports whether the app has a PDS of its own.
func (o *options) own() bool { return o.relay == "" && o.jetstream == "" }

// strangersHere reports whether servers that users name may be on this machine and in private
// networks. On the web, anybody could make requests there.
func (o *options) strangersHere() bool { return o.publicURL == "" && (o.local || o.own()) }

// run serves until the context ends.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: level}))
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return err
	}
	s := settings{dir: o.data, url: strings.TrimSuffix(o.publicURL, "/"), firehose: o.relay, jetstream: o.jetstream, log: log, development: o.strangersHere()}
	if s.secret, err = readSecret(filepath.Join(o.data, "secret")); err != nil {
		return err
	}
	if o.key != "" {
		key, err := readKey(o.key)
		if err != nil {
			return err
		}
		s.keys = []client.Key{key}
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if s.loopback = s.url == ""; s.loopback {
		s.url = "http://" + l.Addr().String()
	}
	s.clients(&o)
	if o.own() {
		network, err := dev.Start(ctx, o.pds, filepath.Join(o.data, "pds"), s.secret, log)
		if err != nil {
			return err
		}
		defer closeWithin(network.Close, log)
		s.firehose, s.resolver = network.URL, network.Resolver()
		for _, login := range network.Logins {
			s.logins = append(s.logins, login.Handle)
		}
		banner(out, &s, network)
	} else {
		banner(out, &s, nil)
	}
	return serve(ctx, l, s)
}

// clients sets what makes requests.
func (s *settings) clients(o *options) {
	s.strangers = safehttp.NewClient(safehttp.Config{AllowPrivate: s.development, AllowHTTP: s.development})
	s.downloads = safehttp.NewClient(safehttp.Config{AllowPrivate: s.development, AllowHTTP: s.development, Timeout: 2 * time.Minute, MaxBody: source.MaxRepo})
	s.operator = &http.Client{}
	plc := &identity.PLCClient{URL: o.plc}
	s.resolver = &identity.Resolver{PLC: plc, Development: s.development}
}

// grace is how long requests may go on after an interrupt.
const grace = 5 * time.Second

// closeWithin closes something that waits for requests.
func closeWithin(closing func(context.Context) error, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := closing(ctx); err != nil {
		log.Warn("not everything ended as it should", "error", err)
	}
}

// serve serves an app until the context ends.
func serve(ctx context.Context, l net.Listener, s settings) (err error) {
	a, err := openApp(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	var handler http.Handler = a.web
	if !s.loopback { // a proxy in front, in a private network, says whose request it is
		handler = limit.PrivateNetworks().Handler(a.web)
	}
	srv := &http.Server{Handler: handler, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	limit.Harden(srv)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { a.run(ctx) })
	var failed error
	running.Go(func() {
		defer cancel()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed = err
		}
	})
	<-ctx.Done()
	closeWithin(srv.Shutdown, s.log) // open pages have ended with the context
	srv.Close()
	running.Wait()
	return failed
}

// banner says what was started and what to try.
func banner(out io.Writer, s *settings, own *dev.Network) {
	fmt.Fprintf(out, "Statusphere: %s\n", s.url)
	switch {
	case own != nil:
		fmt.Fprintf(out, "  data      %s\n  PDS       %s (in this process, with its own did:plc directory)\n\nSign in with one of these accounts:\n", s.dir, own.URL)
		for _, login := range own.Logins {
			fmt.Fprintf(out, "  handle %s   password %s\n", login.Handle, login.Password)
		}
	case s.jetstream != "":
		fmt.Fprintf(out, "  data      %s\n  Jetstream %s\n            What it sends is not signed: this app believes whoever runs it.\n", s.dir, s.jetstream)
	default:
		fmt.Fprintf(out, "  data      %s\n  relay     %s (everything is verified)\n", s.dir, s.firehose)
	}
	fmt.Fprintln(out)
}
