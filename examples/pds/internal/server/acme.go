package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/certs"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// acmeTLS returns a configuration with certificates that are got by ACME, and starts the listener
// for the challenges and for redirects. What fails later ends nothing: it is tried again, and told.
func (s *Server) acmeTLS() (*tls.Config, error) {
	s.certs = certs.New(certs.Config{
		Name: s.cfg.Hostname, Policy: s.pds.Certifies, Dir: filepath.Join(s.cfg.DataDirectory, datadir.ACME),
		Email: s.cfg.TLS.Email, Directory: s.cfg.TLS.Directory, UserAgent: "pdskit/" + Version, Logger: s.log,
		Event: func(e certs.Event) { s.meters.certificate(s.cfg.Hostname, e) },
	})
	if port := s.cfg.TLS.HTTPPort; port >= 0 {
		l, err := listen("PDS_HTTP_PORT, PDS_BIND_ADDRESS", net.JoinHostPort(s.cfg.Bind, fmt.Sprint(port)))
		if err != nil {
			return nil, err
		}
		s.serveMore(&http.Server{Handler: s.certs.HTTPHandler(), WriteTimeout: 20 * time.Second}, &limit.Listener{Listener: l, Total: 1024})
	}
	return s.certs.TLSConfig(), nil
}
