package server

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

type updateHandleInput struct {
	Handle syntax.Handle `json:"handle"`
}

func (s *Server) updateHandle(ctx context.Context, r *xrpc.Request, in updateHandleInput) (out xrpc.None, err error) {
	did := caller(r)
	handle, err := s.checkHandle(ctx, did, in.Handle)
	if err != nil {
		return out, err
	}
	return out, s.changeHandle(ctx, did, handle)
}

// checkForeignHandle checks a handle that is not under one of the server's
// domains: it must resolve to the account.
func (s *Server) checkForeignHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) (syntax.Handle, error) {
	if _, err := syntax.ParseHandle(string(handle)); err != nil {
		return "", &xrpc.Error{Status: 400, Name: "InvalidHandle", Message: "Input/handle must be a valid handle"}
	}
	s.resolver.Purge(syntax.AtIdentifier(handle))
	if found, err := s.resolver.ResolveHandle(ctx, handle); err != nil || found != did {
		return "", xrpc.InvalidRequest("External handle did not resolve to DID")
	}
	return handle, nil
}

// changeHandle gives an account a handle: in the DID document, here, and in the
// eyes of the network, which is told even if nothing changes.
func (s *Server) changeHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) error {
	err := s.accounts.ChangeHandle(ctx, did, handle, func() error { return s.setDocumentHandle(ctx, did, handle) },
		identityEvent(accounts.Account{DID: did, Handle: handle}))
	s.resolver.Purge(syntax.AtIdentifier(did))
	switch {
	case errors.Is(err, accounts.ErrHandleTaken):
		return xrpc.InvalidRequest("Handle already taken: %s", handle)
	case errors.Is(err, accounts.ErrNotFound):
		return errAccountNotFound
	}
	return err
}

// setDocumentHandle puts a handle into a did:plc document. A did:web is its owner's to change.
func (s *Server) setDocumentHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) error {
	if did.Method() != "plc" {
		return nil
	}
	last, err := s.plc.Last(ctx, did)
	if err != nil {
		return directoryError(err)
	}
	op, err := last.Next()
	if err != nil {
		return directoryError(err)
	}
	had := slices.Clone(op.AlsoKnownAs)
	op.SetHandle(handle)
	if slices.Equal(had, op.AlsoKnownAs) {
		return nil
	}
	key, _ := s.rotationKey(op.RotationKeys)
	if err := op.Sign(ctx, key); err != nil {
		return err
	}
	return directoryError(s.plc.Submit(ctx, did, op))
}

// rotationKey returns the server's key among the rotation keys of a DID, and whether there is one: another than that of
// new DIDs while keys are exchanged.
func (s *Server) rotationKey(of []string) (*crypto.PrivateKey, bool) {
	for _, key := range s.secrets.PLCRotationKeys {
		if slices.Contains(of, key.PublicKey().DIDKey()) {
			return key, true
		}
	}
	return s.rotation, false
}

type didCredentials struct {
	RotationKeys        []string                       `json:"rotationKeys,omitempty"`
	AlsoKnownAs         []string                       `json:"alsoKnownAs,omitempty"`
	VerificationMethods map[string]string              `json:"verificationMethods,omitempty"`
	Services            map[string]identity.PLCService `json:"services,omitempty"`
}

func (s *Server) getRecommendedDidCredentials(ctx context.Context, r *xrpc.Request, _ struct{}) (out didCredentials, err error) {
	a, err := s.account(r, caller(r))
	if err != nil {
		return out, err
	}
	key, err := s.accounts.Signer(ctx, a.DID)
	if err != nil {
		return out, err
	}
	if s.cfg.RecoveryKey != "" {
		out.RotationKeys = append(out.RotationKeys, s.cfg.RecoveryKey)
	}
	out.RotationKeys = append(out.RotationKeys, s.rotation.PublicKey().DIDKey())
	out.AlsoKnownAs = []string{"at://" + string(a.Handle)}
	out.VerificationMethods = map[string]string{identity.SigningKeyID: key.PublicKey().DIDKey()}
	out.Services = map[string]identity.PLCService{identity.PDSID: {Type: identity.PDSType, Endpoint: s.url}}
	return out, nil
}

func (s *Server) requestPlcOperationSignature(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	return out, s.mailToken(ctx, r, accounts.PLCOperation, "Change of your identity requested",
		"Somebody, probably you, wants to change the identity (DID) of your account %[2]s, as when you move it to another server. To allow it, enter this token:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, change your password.\n")
}

type signPlcOperationInput struct {
	Token string `json:"token"`
	didCredentials
}

type plcOperation struct {
	Operation json.RawMessage `json:"operation"`
}

func (s *Server) signPlcOperation(ctx context.Context, r *xrpc.Request, in signPlcOperationInput) (out plcOperation, err error) {
	did := caller(r)
	if in.Token == "" {
		return out, xrpc.InvalidRequest("email confirmation token required to sign PLC operations")
	}
	if err := s.accounts.UseMailToken(ctx, did, accounts.PLCOperation, in.Token); err != nil {
		return out, tokenError(err)
	}
	last, err := s.plc.Last(ctx, did)
	if err != nil {
		return out, directoryError(err)
	}
	op, err := last.Next()
	if err != nil {
		return out, directoryError(err)
	}
	key, _ := s.rotationKey(op.RotationKeys)
	if in.RotationKeys != nil {
		op.RotationKeys = in.RotationKeys
	}
	if in.AlsoKnownAs != nil {
		op.AlsoKnownAs = in.AlsoKnownAs
	}
	if in.VerificationMethods != nil {
		op.VerificationMethods = in.VerificationMethods
	}
	if in.Services != nil {
		op.Services = in.Services
	}
	if err := op.Sign(ctx, key); err != nil {
		return out, xrpc.InvalidRequest("Invalid operation: %v", err)
	}
	out.Operation, err = json.Marshal(op)
	return out, err
}

func (s *Server) submitPlcOperation(ctx context.Context, r *xrpc.Request, in plcOperation) (out xrpc.None, err error) {
	a, err := s.account(r, caller(r))
	if err != nil {
		return out, err
	}
	op, err := identity.ParsePLCOperation(in.Operation)
	if err != nil || op.Type != identity.PLCUpdate {
		return out, xrpc.InvalidRequest("Invalid operation")
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
	if err := s.plc.Submit(ctx, a.DID, op); err != nil {
		return out, directoryError(err)
	}
	s.resolver.Purge(syntax.AtIdentifier(a.DID))
	return out, s.accounts.Tell(ctx, a.DID, identityEvent(a))
}

type reserveSigningKeyInput struct {
	DID syntax.DID `json:"did"`
}

type reserveSigningKeyOutput struct {
	SigningKey string `json:"signingKey"`
}

func (s *Server) reserveSigningKey(ctx context.Context, r *xrpc.Request, in reserveSigningKeyInput) (out reserveSigningKeyOutput, err error) {
	out.SigningKey, err = s.accounts.ReserveKey(ctx, in.DID)
	return out, err
}
