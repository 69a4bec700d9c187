package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/memlimit"
	"github.com/pdskit/pdskit/examples/pds/internal/notify"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
)

// logger returns the log of a configuration.
func logger(w io.Writer, l config.Log) *slog.Logger {
	opt := &slog.HandlerOptions{Level: l.Level}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// serve serves until the context ends.
func serve(ctx context.Context, c *call) error {
	cfg, file, err := c.load()
	if err != nil {
		return err
	}
	log := logger(c.Stderr, cfg.Log)
	if file != "" {
		log.Info("environment file", "path", file)
	}
	for _, w := range cfg.Warnings {
		log.Warn("configuration: " + w)
	}
	if n, ok := memlimit.Limit(); ok {
		log.Info("memory limit of the Go runtime", "mib", n>>20)
	}
	srv, err := server.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err := banner(c.Stdout, cfg, srv); err != nil {
		log.Warn("the administrator's password will be shown again", "error", err)
	}
	tell := notify.New(c.Environ)
	tell.Send(notify.Ready, notify.Status("Serving "+srv.URL()))
	go tell.Watch(ctx, srv.Alive)
	<-ctx.Done()
	fmt.Fprintln(c.Stdout, "Shutting down.")
	tell.Send(notify.Stopping)
	srv.Drain(context.Background())
	end, cancel := context.WithTimeout(context.Background(), cfg.DrainTimeout)
	defer cancel()
	return srv.Shutdown(end)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func version(_ context.Context, c *call) error {
	revision := cmp.Or(server.Revision, "unknown")
	return c.result(map[string]string{"version": server.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "revision": revision},
		"pds %s (pdskit)\n%s, %s/%s, revision %s", server.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, revision)
}

// shownConfig is what may be shown of a configuration.
type shownConfig struct {
	File          string   `json:"environmentFile,omitempty"`
	URL           string   `json:"url"`
	ServiceDID    string   `json:"serviceDid"`
	Listen        string   `json:"listen"`
	ACME          bool     `json:"acme"`
	DevMode       bool     `json:"devMode"`
	DataDirectory string   `json:"dataDirectory"`
	PLC           string   `json:"plc"`
	Handles       []string `json:"handleDomains"`
	Invites       bool     `json:"inviteRequired"`
	Mail          string   `json:"mail"`
	RateLimits    bool     `json:"rateLimits"`
	AppView       string   `json:"appView,omitempty"`
	Crawlers      []string `json:"crawlers"`
	Metrics       string   `json:"metrics,omitempty"`
	Warnings      []string `json:"warnings"`
}

func showConfig(_ context.Context, c *call) error {
	cfg, file, err := c.load()
	if err != nil {
		return err
	}
	s := shownConfig{
		File: file, URL: cfg.PublicURL(cfg.Port), ServiceDID: string(cfg.ServiceDID), Listen: fmt.Sprintf("%s:%d", cfg.Bind, cfg.Port),
		ACME: cfg.TLS.ACME, DevMode: cfg.DevMode, DataDirectory: absolute(cfg.DataDirectory), PLC: cfg.PLC, Handles: cfg.HandleDomains,
		Invites: cfg.InviteRequired, RateLimits: cfg.Limits.Enabled, AppView: cfg.Proxy.AppView.URL,
		Crawlers: append([]string{}, cfg.Crawlers...), Metrics: cfg.Metrics, Warnings: append([]string{}, cfg.Warnings...),
	}
	switch {
	case cfg.Mail.Sink != "":
		s.Mail = "to the file " + cfg.Mail.Sink
	case cfg.Mail.SMTP != "":
		s.Mail = "by SMTP, from " + cfg.Mail.From
	default:
		s.Mail = "to the log"
	}
	if s.PLC == "" {
		s.PLC = "in the process"
	}
	if c.json {
		return c.writeJSON(s)
	}
	rows := [][]string{
		{"environment file", s.File}, {"URL", s.URL}, {"service DID", s.ServiceDID}, {"listens on", s.Listen}, {"ACME", fmt.Sprint(s.ACME)},
		{"development mode", fmt.Sprint(s.DevMode)}, {"data directory", s.DataDirectory}, {"PLC directory", s.PLC},
		{"handles", "*" + strings.Join(s.Handles, ", *")}, {"invites required", fmt.Sprint(s.Invites)}, {"mail", s.Mail},
		{"rate limits", fmt.Sprint(s.RateLimits)}, {"AppView", s.AppView}, {"crawlers", strings.Join(s.Crawlers, ", ")}, {"metrics", s.Metrics},
	}
	for _, row := range rows {
		if row[1] == "" {
			row[1] = "none"
		}
		fmt.Fprintf(c.Stdout, "%-20s%s\n", row[0], row[1])
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(c.Stdout, "warning: %s\n", w)
	}
	return nil
}
