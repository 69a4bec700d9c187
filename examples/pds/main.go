// Command pds is the reference server: an AT Protocol Personal Data Server made
// of pdskit's packages.
//
// Without configuration it is a development server on http://localhost:2583 with
// its data in ./pds-data and a did:plc directory of its own. The environment
// configures it as it does the official server: see package config.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "pds: %v\n", err)
		os.Exit(1)
	}
}

// grace is how long requests may go on after an interrupt.
const grace = 5 * time.Second

// run serves until the context ends.
func run(ctx context.Context, out io.Writer) error {
	env, _, err := config.Environment(os.Environ(), "")
	if err != nil {
		return err
	}
	cfg, err := config.Load(env)
	if err != nil {
		return fmt.Errorf("the configuration is wrong:\n%w", err)
	}
	srv, err := server.Start(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	banner(out, cfg, srv)
	<-ctx.Done()
	fmt.Fprintln(out, "Shutting down.")
	end, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	return srv.Shutdown(end)
}

// banner says what was started and what to try.
func banner(out io.Writer, cfg *config.Config, srv *server.Server) {
	data, err := filepath.Abs(cfg.DataDirectory)
	if err != nil {
		data = cfg.DataDirectory
	}
	kind := "Personal Data Server"
	if cfg.DevMode {
		kind = "development Personal Data Server"
	}
	fmt.Fprintf(out, "pdskit %s: a %s at %s\n", server.Version, kind, srv.URL())
	fmt.Fprintf(out, "  data        %s\n", data)
	plc, local := srv.PLC()
	if local {
		plc += " (in this process)"
	}
	fmt.Fprintf(out, "  PLC         %s\n", plc)
	fmt.Fprintf(out, "  handles     *%s\n", cfg.HandleDomains[0])
	if srv.Secrets().NewPassword {
		fmt.Fprintf(out, "  admin       password %s (shown only now; kept in %s)\n", srv.Secrets().AdminPassword, filepath.Join(data, "secrets.json"))
	}
	if cfg.InviteRequired {
		fmt.Fprintf(out, "\nNew accounts need an invite code. Make one:\n  curl -u admin:PASSWORD -H 'Content-Type: application/json' -d '{\"useCount\":1}' %s/xrpc/com.atproto.server.createInviteCode\n", srv.URL())
		return
	}
	fmt.Fprintf(out, "\nTry:\n  curl %s/xrpc/com.atproto.server.describeServer\n", srv.URL())
	fmt.Fprintf(out, "  curl -H 'Content-Type: application/json' -d '{\"handle\":\"alice%s\",\"email\":\"alice@example.com\",\"password\":\"secret\"}' %s/xrpc/com.atproto.server.createAccount\n",
		cfg.HandleDomains[0], srv.URL())
}
