package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// Service is a service that requests are forwarded to.
type Service struct {
	DID syntax.DID
	ID  string // fragment of the entry in the DID document, such as "bsky_appview"
	// URL is the service's URL, if the operator has configured it. Empty: it is in the DID
	// document.
	URL string
}

// Ref returns the service as DID and fragment, as in the "aud" of an OAuth scope.
func (s Service) Ref() string { return string(s.DID) + "#" + s.ID }

// header names the service that a request is for.
const header = "Atproto-Proxy"

// Target returns the service for a request: that of its header, or the default for its method. It
// does not resolve the service's URL.
func (p *Proxy) Target(r *xrpc.Request) (Service, error) {
	if ref := r.Header.Get(header); ref != "" {
		s, err := parse(ref)
		if err != nil {
			return s, err
		}
		for _, known := range p.Known {
			if known.DID == s.DID && known.ID == s.ID {
				return known, nil
			}
		}
		return s, nil
	}
	if p.Default != nil {
		if s, ok := p.Default(r.NSID); ok {
			return s, nil
		}
	}
	return Service{}, xrpc.InvalidRequest("No service configured for %s", r.NSID)
}

// parse reads the header. Its errors have the words that clients know.
func parse(ref string) (s Service, err error) {
	did, id, has := strings.Cut(ref, "#")
	switch {
	case did == "":
		return s, xrpc.InvalidRequest("no did specified in proxy header")
	case !has || id == "":
		return s, xrpc.InvalidRequest("no service id specified in proxy header")
	case strings.Contains(id, "#"):
		return s, xrpc.InvalidRequest("invalid proxy header format")
	case strings.Contains(ref, " "):
		return s, xrpc.InvalidRequest("proxy header cannot contain spaces")
	}
	if s.DID, err = syntax.ParseDID(did); err != nil {
		return s, xrpc.InvalidRequest("could not resolve proxy did")
	}
	s.ID = id
	return s, nil
}

// address returns where a service is, and the client for requests there.
func (p *Proxy) address(r *xrpc.Request, s Service) (*url.URL, *http.Client, error) {
	client, endpoint := p.trusted(), s.URL
	if endpoint == "" {
		doc, err := p.Resolver.ResolveDID(r.Context(), s.DID)
		if r.Context().Err() != nil {
			return nil, nil, r.Context().Err()
		}
		if s.DID.Method() == "plc" && errors.Is(err, identity.ErrUnavailable) {
			// The directory's failure. A did:web that does not answer is the caller's choice.
			return nil, nil, &xrpc.Error{Status: http.StatusBadGateway, Message: "could not resolve proxy did"}
		} else if err != nil {
			return nil, nil, xrpc.InvalidRequest("could not resolve proxy did")
		}
		found := false
		if endpoint, found = doc.Service(s.ID, ""); !found {
			return nil, nil, xrpc.InvalidRequest("could not resolve proxy did service url")
		}
		client = p.guarded()
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return nil, nil, xrpc.InvalidRequest("could not resolve proxy did service url")
	}
	// Methods are always at the top of a server.
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/xrpc/" + string(r.NSID), RawQuery: r.URL.RawQuery}, client, nil
}
