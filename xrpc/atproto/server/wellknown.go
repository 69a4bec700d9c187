package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
)

// WellKnown serves two paths: /.well-known/atproto-did, which resolves the handles of accounts, and
// /.well-known/did.json, the document of the server's own did:web.
func (s *Service) WellKnown() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/atproto-did", read(s.atprotoDID))
	mux.HandleFunc("/.well-known/did.json", read(s.serviceDocument))
	return mux
}

// read is a handler of requests that read, from web pages of any origin too.
func read(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case xrpc.CORS(w, r):
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		default:
			h(w, r)
		}
	}
}

// atprotoDID answers which account has the handle that is the host name of the
// request (Handle specification, HTTPS well-known Method).
func (s *Service) atprotoDID(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := s.accounts.Account(r.Context(), syntax.AtIdentifier(syntax.Handle(host).Normalize()))
	switch {
	case errors.Is(err, account.ErrNotFound) || err == nil && a.Status() != account.Active:
		http.Error(w, "User not found", http.StatusNotFound)
	case err != nil:
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, a.DID)
	}
}

// serviceDocument is the document of the server's own did:web.
func (s *Service) serviceDocument(w http.ResponseWriter, r *http.Request) {
	doc, err := json.Marshal(identity.Document{
		ID:       s.did,
		Services: []identity.Service{{ID: "#" + identity.PDSID, Type: identity.PDSType, Endpoint: s.url}},
	})
	if err != nil {
		xrpc.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(doc)
}
