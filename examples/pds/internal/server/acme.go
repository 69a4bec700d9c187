package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
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
		HostPolicy: s.certifies,
		Email:      s.cfg.TLS.Email,
		Client:     &acme.Client{DirectoryURL: s.cfg.TLS.Directory, UserAgent: "pdskit/" + Version},
	}
	if m.Client.DirectoryURL == "" {
		m.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	if port := s.cfg.TLS.HTTPPort; port >= 0 {
		l, err := net.Listen("tcp", net.JoinHostPort(s.cfg.Bind, fmt.Sprint(port)))
		if err != nil {
			return nil, err
		}
		s.serveMore(&http.Server{Handler: m.HTTPHandler(nil), WriteTimeout: 20 * time.Second}, &limit.Listener{Listener: l, Total: 1024})
	}
	return m.TLSConfig(), nil
}

// certifies reports whether the server may have a certificate for a name: for
// its own, and for the handles of its accounts. So strangers cannot use up the
// authority's patience.
func (s *Server) certifies(ctx context.Context, host string) error {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == s.cfg.Hostname {
		return nil
	}
	if _, err := syntax.ParseHandle(host); err != nil {
		return fmt.Errorf("no certificate for %.260q", host)
	}
	if _, err := s.accounts.Account(ctx, syntax.AtIdentifier(host)); err != nil {
		return fmt.Errorf("no certificate for %q: %w", host, err)
	}
	return nil
}

// tlsCheck tells a proxy that gets certificates as they are needed whether it may for
// a domain, as Caddy's "ask" wants it.
func (s *Server) tlsCheck(w http.ResponseWriter, r *http.Request) {
	domain := r.URL.Query().Get("domain")
	if domain == "" {
		xrpc.WriteError(w, xrpc.InvalidRequest("bad or missing domain query param"))
		return
	}
	if err := s.certifies(r.Context(), domain); err != nil {
		xrpc.WriteError(w, &xrpc.Error{Status: http.StatusNotFound, Name: "NotFound", Message: "no account has this handle"})
		return
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]bool{"success": true})
}
