package atproto

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// mountIdentity registers the methods that need a Resolver.
func (s *Service) mountIdentity(srv *xrpc.Server) {
	srv.Handle(xrpc.Route{NSID: "com.atproto.identity.resolveDid", Handler: xrpc.Query(s.resolveDid)})
	srv.Handle(xrpc.Route{NSID: "com.atproto.identity.resolveIdentity", Handler: xrpc.Query(s.resolveIdentity)})
	srv.Handle(xrpc.Route{NSID: "com.atproto.identity.refreshIdentity", Handler: xrpc.Procedure(s.refreshIdentity), Auth: s.Auth.User})
}

type resolveDidOutput struct {
	DIDDoc json.RawMessage `json:"didDoc"`
}

func (s *Service) resolveDid(ctx context.Context, r *xrpc.Request, p didParam) (out resolveDidOutput, err error) {
	doc, err := s.Resolver.ResolveDID(ctx, p.DID)
	if err != nil {
		return out, didError(err)
	}
	out.DIDDoc, err = json.Marshal(doc)
	return out, err
}

type identifierParam struct {
	Identifier syntax.AtIdentifier `json:"identifier"`
}

// identityInfo is the definition of that name in com.atproto.identity.defs.
type identityInfo struct {
	DID    syntax.DID      `json:"did"`
	Handle syntax.Handle   `json:"handle"`
	DIDDoc json.RawMessage `json:"didDoc"`
}

// resolveIdentity answers for accounts of the host from what it knows itself, for others from
// the network.
func (s *Service) resolveIdentity(ctx context.Context, r *xrpc.Request, p identifierParam) (out identityInfo, err error) {
	acct, err := s.Accounts.Account(ctx, p.Identifier)
	if err == nil && acct.Status == Active {
		doc, handle, err := s.Accounts.Document(ctx, acct.DID)
		if err != nil {
			return out, didError(err)
		}
		if handle != acct.Handle {
			handle = syntax.InvalidHandle
		}
		return identityInfo{acct.DID, handle, doc}, nil
	} else if err != nil && !errors.Is(err, ErrNoAccount) {
		return out, err
	}
	did, isDID := p.Identifier.DID()
	if !isDID {
		if did, err = s.Resolver.ResolveHandle(ctx, syntax.Handle(p.Identifier)); errors.Is(err, identity.ErrNotFound) {
			return out, &xrpc.Error{Status: http.StatusBadRequest, Name: "HandleNotFound", Message: "Unable to resolve handle"}
		} else if err != nil {
			return out, resolveError("handle", err)
		}
	}
	id, err := s.Resolver.Lookup(ctx, syntax.AtIdentifier(did))
	if err != nil {
		return out, didError(err)
	}
	out = identityInfo{DID: did, Handle: id.Handle}
	if !isDID && id.Handle != syntax.Handle(p.Identifier).Normalize() {
		out.Handle = syntax.InvalidHandle
	}
	out.DIDDoc, err = json.Marshal(id.Document)
	return out, err
}

func (s *Service) refreshIdentity(ctx context.Context, r *xrpc.Request, in identifierParam) (identityInfo, error) {
	s.Resolver.Purge(in.Identifier)
	return s.resolveIdentity(ctx, r, in)
}

// didError is the answer for a DID that was not resolved.
func didError(err error) error {
	switch {
	case errors.Is(err, identity.ErrTombstoned):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: "DidDeactivated", Message: "The DID has been deactivated"}
	case errors.Is(err, identity.ErrNotFound):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: "DidNotFound", Message: "Unable to resolve DID"}
	}
	return resolveError("DID", err)
}

// resolveError is the answer where resolution failed. What exactly went wrong is not told: it may be about
// the host's network.
func resolveError(what string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, identity.ErrInvalid), errors.Is(err, identity.ErrMethod):
		return xrpc.InvalidRequest("This %s cannot be resolved here", what)
	case errors.Is(err, identity.ErrUnavailable):
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "The " + what + " could not be resolved at present"}
	}
	return xrpc.InvalidRequest("What the %s resolves to is invalid", what)
}
