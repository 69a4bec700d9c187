package atproto

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

func (s *Service) resolveDid(ctx context.Context, r *xrpc.Request, p api.IdentityResolveDIDParams) (out api.IdentityResolveDIDOutput, err error) {
	doc, err := s.Resolver.ResolveDID(ctx, p.DID)
	if err != nil {
		return out, IdentityError(err)
	}
	out.DIDDoc, err = json.Marshal(doc)
	return out, err
}

// resolveIdentity answers for accounts of the host from what it knows itself, for others from
// the network.
func (s *Service) resolveIdentity(ctx context.Context, r *xrpc.Request, p api.IdentityResolveIdentityParams) (out api.IdentityResolveIdentityOutput, err error) {
	acct, err := s.Accounts.Account(ctx, p.Identifier)
	if err == nil && acct.Status == Active {
		doc, handle, err := s.document(ctx, acct.DID)
		if err != nil {
			return out, IdentityError(err)
		}
		if handle != acct.Handle {
			handle = syntax.InvalidHandle
		}
		return api.IdentityResolveIdentityOutput{DID: acct.DID, Handle: handle, DIDDoc: doc}, nil
	} else if err != nil && !errors.Is(err, ErrNoAccount) {
		return out, err
	}
	did, isDID := p.Identifier.DID()
	if !isDID {
		if did, err = s.Resolver.ResolveHandle(ctx, syntax.Handle(p.Identifier)); errors.Is(err, identity.ErrNotFound) {
			return out, &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorHandleNotFound, Message: "Unable to resolve handle"}
		} else if err != nil {
			return out, IdentityError(err)
		}
	}
	id, err := s.Resolver.Lookup(ctx, syntax.AtIdentifier(did))
	if err != nil {
		return out, IdentityError(err)
	}
	out = api.IdentityResolveIdentityOutput{DID: did, Handle: id.Handle}
	if !isDID && id.Handle != syntax.Handle(p.Identifier).Normalize() {
		out.Handle = syntax.InvalidHandle
	}
	out.DIDDoc, err = json.Marshal(id.Document)
	return out, err
}

func (s *Service) refreshIdentity(ctx context.Context, r *xrpc.Request, in api.IdentityRefreshIdentityInput) (api.IdentityRefreshIdentityOutput, error) {
	s.Resolver.Purge(in.Identifier)
	return s.resolveIdentity(ctx, r, api.IdentityResolveIdentityParams(in))
}

// document returns the DID document of an account of the host, and the handle that it claims.
func (s *Service) document(ctx context.Context, did syntax.DID) ([]byte, syntax.Handle, error) {
	if d, ok := s.Accounts.(Documents); ok {
		return d.Document(ctx, did)
	}
	doc, err := s.network.ResolveDID(ctx, did)
	if err != nil {
		return nil, "", err
	}
	text, err := json.Marshal(doc)
	handle, _ := doc.Handle()
	return text, handle, err
}

// foreignHandle returns the DID of a handle that is not of the host.
func (s *Service) foreignHandle(ctx context.Context, handle syntax.Handle) (syntax.DID, error) {
	if h, ok := s.Accounts.(Handles); ok {
		return h.ResolveHandle(ctx, handle)
	}
	return s.network.ResolveHandle(ctx, handle)
}

// IdentityError converts errors of package identity to the *xrpc.Error of the response. Other
// errors are returned unchanged: the status is then 500, without their text.
//
// The response does not contain the details of a failed resolution, since they may be about the
// host's network. It does contain what is wrong with a did:plc operation.
func IdentityError(err error) error {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	var perr *identity.PLCError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case is(identity.ErrTombstoned):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorDIDDeactivated, Message: "The DID has been deactivated"}
	case is(identity.ErrUnavailable):
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "The identity could not be resolved at present"}
	case is(identity.ErrNotFound):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorDIDNotFound, Message: "Unable to resolve DID"}
	case is(identity.ErrInvalid, identity.ErrMethod):
		return xrpc.InvalidRequest("This identifier cannot be resolved here")
	case errors.As(err, &perr):
		return xrpc.InvalidRequest("The PLC directory refused: %s", perr.Message)
	case is(identity.ErrOperation, identity.ErrSignature, identity.ErrOrder, identity.ErrLateRecovery, identity.ErrGenesis):
		return xrpc.InvalidRequest("Invalid operation: %s", strings.TrimPrefix(err.Error(), "identity: "))
	case is(identity.ErrDocument, identity.ErrMismatch, identity.ErrAmbiguous, identity.ErrTooLarge, identity.ErrAddress, identity.ErrLog):
		return xrpc.InvalidRequest("What the identifier resolves to is invalid")
	}
	return err
}
