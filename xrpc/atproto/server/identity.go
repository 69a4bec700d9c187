package server

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

func (s *Service) updateHandle(ctx context.Context, r *xrpc.Request, in api.IdentityUpdateHandleInput) (out xrpc.None, err error) {
	did := r.Principal.DID
	handle, err := s.checkHandle(ctx, did, in.Handle)
	if err != nil {
		return out, err
	}
	return out, s.changeHandle(ctx, s.sessions.By(r), handle)
}

// checkForeignHandle checks a handle that is not under one of the server's
// domains: it must resolve to the account.
func (s *Service) checkForeignHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) (syntax.Handle, error) {
	if _, err := syntax.ParseHandle(string(handle)); err != nil {
		return "", &xrpc.Error{Status: 400, Name: api.ErrorInvalidHandle, Message: "Input/handle must be a valid handle"}
	}
	s.resolver.Purge(syntax.AtIdentifier(handle))
	if found, err := s.resolver.ResolveHandle(ctx, handle); err != nil || found != did {
		return "", xrpc.InvalidRequest("External handle did not resolve to DID")
	}
	return handle, nil
}

// changeHandle is moveHandle for methods.
func (s *Service) changeHandle(ctx context.Context, who account.Caller, handle syntax.Handle) error {
	err := s.moveHandle(ctx, who, handle)
	if errors.Is(err, account.ErrHandleTaken) {
		return xrpc.InvalidRequest("Handle already taken: %s", handle)
	}
	return err
}

// moveHandle changes an account's handle in its DID document and here, and adds an event, even if
// nothing changes.
func (s *Service) moveHandle(ctx context.Context, who account.Caller, handle syntax.Handle) error {
	did := who.DID
	err := s.accounts.ChangeHandle(ctx, who, handle, func(ctx context.Context, h syntax.Handle) error { return s.setDocumentHandle(ctx, did, h) })
	s.resolver.Purge(syntax.AtIdentifier(did))
	return err
}

// setDocumentHandle makes an account's DID document name a handle. It changes that of a did:plc.
// Only the owner can change that of a did:web, so it must name the handle already.
func (s *Service) setDocumentHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) error {
	if did.Method() != "plc" {
		s.resolver.Purge(syntax.AtIdentifier(did))
		doc, err := s.resolver.ResolveDID(ctx, did)
		if err != nil {
			return atproto.IdentityError(err)
		}
		if named, _ := doc.Handle(); named != handle {
			return xrpc.InvalidRequest("The DID document does not name the handle: its alsoKnownAs must begin with at://%s", handle)
		}
		return nil
	}
	_, err := identity.Rotate(ctx, s.plc, did, func(op *identity.PLCOperation) error {
		op.SetHandle(handle)
		return nil
	}, s.cfg.RotationKeys...)
	s.resolver.Purge(syntax.AtIdentifier(did))
	return directoryError(err)
}

var errNotOurs = xrpc.InvalidRequest("The rotation keys of the DID do not include the server's: it cannot sign for it")

var errNoPLC = xrpc.InvalidRequest("The account's DID is not a did:plc: there are no operations to sign")

// submit sends an operation to the directory.
func (s *Service) submit(ctx context.Context, did syntax.DID, op *identity.PLCOperation) error {
	err := identity.SubmitPLC(ctx, s.plc, did, op)
	s.resolver.Purge(syntax.AtIdentifier(did))
	return directoryError(err)
}

// rotationKey returns the one of Config.RotationKeys that is among the rotation keys of a DID, and
// whether there is one.
func (s *Service) rotationKey(of []string) (crypto.Signer, bool) {
	for _, key := range s.cfg.RotationKeys {
		if slices.Contains(of, key.PublicKey().DIDKey()) {
			return key, true
		}
	}
	return s.rotation, false
}

func (s *Service) getRecommendedDidCredentials(ctx context.Context, r *xrpc.Request, _ struct{}) (out api.IdentityGetRecommendedDIDCredentialsOutput, err error) {
	a, err := s.accounts.ByDID(ctx, r.Principal.DID)
	if err != nil {
		return out, err
	}
	key, err := s.accounts.Signer(ctx, a.DID)
	if err != nil {
		return out, err
	}
	if a.DID.Method() == "plc" { // others have no rotation keys
		if s.cfg.RecoveryKey != "" {
			out.RotationKeys = append(out.RotationKeys, s.cfg.RecoveryKey)
		}
		out.RotationKeys = append(out.RotationKeys, s.rotation.PublicKey().DIDKey())
	}
	out.AlsoKnownAs = []string{"at://" + string(a.Handle)}
	if out.VerificationMethods, err = data.MarshalJSON(map[string]string{identity.SigningKeyID: key.PublicKey().DIDKey()}); err != nil {
		return out, err
	}
	out.Services, err = data.MarshalJSON(map[string]identity.PLCService{identity.PDSID: {Type: identity.PDSType, Endpoint: s.url}})
	return out, err
}

func (s *Service) requestPlcOperationSignature(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	if r.Principal.DID.Method() != "plc" {
		return out, errNoPLC
	}
	return out, s.mailToken(ctx, s.sessions.By(r), credential.ForPLCOperation)
}

// signPlcOperation signs an operation that the directory will accept. Only then is the token spent.
func (s *Service) signPlcOperation(ctx context.Context, r *xrpc.Request, in api.IdentitySignPLCOperationInput) (out api.IdentitySignPLCOperationOutput, err error) {
	did := r.Principal.DID
	switch {
	case did.Method() != "plc":
		return out, errNoPLC
	case in.Token == "":
		return out, xrpc.InvalidRequest("email confirmation token required to sign PLC operations")
	}
	if err := s.credentials.CheckMailToken(ctx, s.sessions.By(r), credential.ForPLCOperation, in.Token); err != nil {
		return out, err
	}
	var methods map[string]string
	if in.VerificationMethods != nil {
		if err := in.VerificationMethods.Into(&methods); err != nil {
			return out, xrpc.InvalidRequest("Invalid verificationMethods: %v", err)
		}
	}
	var services map[string]identity.PLCService
	if in.Services != nil {
		if err := in.Services.Into(&services); err != nil {
			return out, xrpc.InvalidRequest("Invalid services: %v", err)
		}
	}
	op, err := identity.SignRotation(ctx, s.plc, did, func(op *identity.PLCOperation) error {
		if in.RotationKeys != nil {
			op.RotationKeys = in.RotationKeys
		}
		if in.AlsoKnownAs != nil {
			op.AlsoKnownAs = in.AlsoKnownAs
		}
		if in.VerificationMethods != nil {
			op.VerificationMethods = methods
		}
		if in.Services != nil {
			op.Services = services
		}
		return nil
	}, s.cfg.RotationKeys...)
	if err != nil {
		return out, directoryError(err)
	}
	if out.Operation, err = json.Marshal(op); err != nil {
		return out, err
	}
	if err := s.credentials.UseMailToken(ctx, s.sessions.By(r), credential.ForPLCOperation, in.Token); err != nil {
		return api.IdentitySignPLCOperationOutput{}, err
	}
	return out, nil
}

func (s *Service) submitPlcOperation(ctx context.Context, r *xrpc.Request, in api.IdentitySubmitPLCOperationInput) (out xrpc.None, err error) {
	a, err := s.accounts.ByDID(ctx, r.Principal.DID)
	if err != nil {
		return out, err
	}
	if a.DID.Method() != "plc" {
		return out, errNoPLC
	}
	op, err := identity.ParsePLCOperation(in.Operation)
	if err != nil || op.Type != identity.PLCUpdate {
		return out, xrpc.InvalidRequest("Invalid operation")
	}
	if err := op.Validate(); err != nil {
		return out, directoryError(err)
	}
	key, err := s.accounts.Signer(ctx, a.DID)
	if err != nil {
		return out, err
	}
	pds := op.Services[identity.PDSID]
	_, ours := s.rotationKey(op.RotationKeys)
	switch {
	case !ours:
		return out, xrpc.InvalidRequest("Rotation keys do not include server's rotation key")
	case pds.Type != identity.PDSType:
		return out, xrpc.InvalidRequest("Incorrect type on atproto_pds service")
	case pds.Endpoint != s.url:
		return out, xrpc.InvalidRequest("Incorrect endpoint on atproto_pds service")
	case op.VerificationMethods[identity.SigningKeyID] != key.PublicKey().DIDKey():
		return out, xrpc.InvalidRequest("Incorrect signing key")
	case len(op.AlsoKnownAs) == 0 || op.AlsoKnownAs[0] != "at://"+string(a.Handle):
		return out, xrpc.InvalidRequest("Incorrect handle in alsoKnownAs")
	}
	if err := s.submit(ctx, a.DID, op); err != nil {
		return out, err
	}
	// The directory has it: the network is told whatever has become of the session.
	return out, s.accounts.AnnounceIdentity(context.WithoutCancel(ctx), account.Trusted(a.DID))
}

func (s *Service) reserveSigningKey(ctx context.Context, r *xrpc.Request, in api.ServerReserveSigningKeyInput) (out api.ServerReserveSigningKeyOutput, err error) {
	out.SigningKey, err = s.accounts.Keys().Reserve(ctx, in.DID)
	return out, err
}
