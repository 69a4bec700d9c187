package pds

import (
	"log/slog"
	"net/url"

	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/recent"
)

// openTrail makes ready what an operator looks back at: what administrators have done, and what has
// gone wrong. The server logs by what it makes from then on.
func (s *Server) openTrail() {
	s.Errors = &recent.Errors{Hosts: s.cfg.knownHosts()}
	s.log = slog.New(s.Errors.Handler(s.cfg.Logger.Handler()))
	s.cfg.Logger = s.log
	s.Audit = &audit.Log{KV: s.cfg.Store.KV, Now: s.cfg.Now, Logger: s.log}
}

// knownHosts are the names of hosts that the operator has given, which may be in the texts of
// errors.
func (c *Config) knownHosts() (list []string) {
	addresses := append([]string{c.URL, c.AppView.URL, c.Moderation.URL, c.Reports.URL}, c.Relays...)
	for _, address := range append(addresses, c.TimeServers...) {
		if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
			list = append(list, u.Hostname())
		}
	}
	return append(list, "plc.directory")
}
