package pds

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// Certifies returns nil if the server may request a certificate for a host name: its own name, and
// the handles of its accounts. So strangers cannot use up the rate limit of the certificate
// authority. Use it as autocert.Manager.HostPolicy.
func (s *Server) Certifies(ctx context.Context, host string) error {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == s.hostname() {
		return nil
	}
	if _, err := syntax.ParseHandle(host); err != nil {
		return fmt.Errorf("no certificate for %.260q", host)
	}
	if _, err := s.Accounts.Account(ctx, syntax.AtIdentifier(host)); err != nil {
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
	if err := s.Certifies(r.Context(), domain); err != nil {
		xrpc.WriteError(w, &xrpc.Error{Status: http.StatusNotFound, Name: "NotFound", Message: "no account has this handle"})
		return
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]bool{"success": true})
}
