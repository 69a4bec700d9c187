package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/xrpc/limit"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// acmeTLS returns a configuration that gets certificates as they are needed (RFC
// 8555), and starts the listener for the challenges and for redirects.
func (s *Server) acmeTLS() (*tls.Config, error) {
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(filepath.Join(s.cfg.DataDirectory, datadir.ACME)),
		HostPolicy: s.pds.Certifies,
		Email:      s.cfg.TLS.Email,
		Client:     &acme.Client{DirectoryURL: s.cfg.TLS.Directory, UserAgent: "pdskit/" + Version},
	}
	if m.Client.DirectoryURL == "" {
		m.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	if port := s.cfg.TLS.HTTPPort; port >= 0 {
		l, err := listen("PDS_HTTP_PORT, PDS_BIND_ADDRESS", net.JoinHostPort(s.cfg.Bind, fmt.Sprint(port)))
		if err != nil {
			return nil, err
		}
		s.serveMore(&http.Server{Handler: m.HTTPHandler(nil), WriteTimeout: 20 * time.Second}, &limit.Listener{Listener: l, Total: 1024})
	}
	return m.TLSConfig(), nil
}
