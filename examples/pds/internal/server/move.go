package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

// createAgain answers a request to create the account of a DID whose owner proves to be
// it, if the account is here already: one whose move here was interrupted, or that once
// left and returns. It is given the password and names of the request, and a session.
//
// The account must be deactivated, and its DID document must still name the key of
// another server, since only then is the token the word of somebody who stands above
// this account's sessions: with our own key, any of them can have one signed.
func (s *Server) createAgain(ctx context.Context, r *xrpc.Request, in createAccountInput) (out createAccountOutput, again bool, err error) {
	if requester, _ := r.Principal.(syntax.DID); requester != in.DID {
		return out, false, &xrpc.Error{Status: http.StatusUnauthorized, Message: "Missing auth to create account with did: " + string(in.DID)}
	}
	a, err := s.accounts.ByDID(ctx, in.DID)
	if errors.Is(err, accounts.ErrNotFound) {
		return out, false, nil
	} else if err != nil {
		return out, false, err
	}
	own, err := s.ownsDocument(ctx, a.DID)
	switch {
	case err != nil:
		return out, false, err
	case a.Status() == atproto.TakenDown:
		return out, false, errTakenDown
	case a.Status() != atproto.Deactivated || own:
		return out, false, xrpc.InvalidRequest("Account already exists: %s", a.DID)
	}
	if a, err = s.renew(ctx, a, in); err != nil {
		return out, false, err
	}
	out, err = s.movedSession(ctx, a)
	return out, true, err
}

// renew gives an account that returns the password and names that it asks for.
func (s *Server) renew(ctx context.Context, a accounts.Account, in createAccountInput) (accounts.Account, error) {
	if err := checkNewPassword(in.Password); err != nil {
		return a, err
	}
	if in.Handle.Normalize() != a.Handle {
		handle, err := s.checkHandle(ctx, a.DID, in.Handle)
		if err != nil {
			return a, err
		}
		// Nothing to register: the document is still another server's to change.
		err = s.accounts.ChangeHandle(ctx, a.DID, handle, func() error { return nil })
		if errors.Is(err, accounts.ErrHandleTaken) {
			return a, xrpc.InvalidRequest("Handle already taken: %s", handle)
		} else if err != nil {
			return a, err
		}
	}
	if in.Email != "" && !strings.EqualFold(in.Email, a.Email) {
		if !validEmail(in.Email) {
			return a, errEmail
		}
		err := s.accounts.ChangeEmail(ctx, a.DID, in.Email)
		if errors.Is(err, accounts.ErrEmailTaken) {
			return a, xrpc.InvalidRequest("Email already taken: %s", in.Email)
		} else if err != nil {
			return a, err
		}
	}
	err := s.accounts.CheckPassword(ctx, a, in.Password)
	if errors.Is(err, accounts.ErrWrongPassword) {
		err = s.accounts.SetPassword(ctx, a.DID, in.Password)
	}
	if err != nil {
		return a, err
	}
	return s.accounts.ByDID(ctx, a.DID)
}

// ownsDocument reports whether an account's DID document names its key here.
func (s *Server) ownsDocument(ctx context.Context, did syntax.DID) (bool, error) {
	doc, err := s.resolver.ResolveDID(ctx, did) // the document that the token was verified with
	if err != nil {
		return false, atproto.IdentityError(err)
	}
	named, err := doc.SigningKey()
	if err != nil {
		return false, atproto.IdentityError(err)
	}
	key, err := s.accounts.Signer(ctx, did)
	if err != nil {
		return false, err
	}
	return named.DIDKey() == key.PublicKey().DIDKey(), nil
}

// createMovedAccount makes an account for a DID that exists, and whose owner
// proved to be it by a service token. It starts deactivated and with an empty
// repository, and nobody is told.
func (s *Server) createMovedAccount(ctx context.Context, a accounts.Account, in createAccountInput) (out createAccountOutput, err error) {
	a.DID = in.DID
	key, err := s.accounts.ReservedKey(ctx, a.DID)
	if err == nil && key == nil {
		key, err = crypto.GenerateKey(crypto.K256)
	}
	if err != nil {
		return out, err
	}
	if a.Password, err = accounts.HashPassword(ctx, in.Password); err != nil {
		return out, err
	}
	if err := s.reserve(ctx, a); err != nil {
		return out, err
	}
	ctx = context.WithoutCancel(ctx)
	a.DeactivatedAt = time.Now().UTC().Truncate(time.Millisecond)
	if _, err := s.accounts.Create(ctx, s.host, a, key, repo.Batch{Silent: true}); err != nil {
		if _, have := s.accounts.ByDID(ctx, a.DID); errors.Is(have, accounts.ErrNotFound) {
			err = errors.Join(err, s.accounts.Release(ctx, a))
		} // else another request was faster, and the names are the account's
		return out, err
	}
	if err := s.accounts.ReleaseKey(ctx, a.DID); err != nil {
		s.log.Error("forget a reserved key", "did", a.DID, "err", err)
	}
	return s.movedSession(ctx, a)
}

// movedSession opens a session of an account that moves here.
func (s *Server) movedSession(ctx context.Context, a accounts.Account) (out createAccountOutput, err error) {
	x, err := s.accounts.StartSession(ctx, a.DID, nil)
	if err != nil {
		return out, err
	}
	out = createAccountOutput{Handle: a.Handle, DID: a.DID, DIDDoc: s.document(ctx, a.DID)}
	out.AccessJWT, out.RefreshJWT, err = s.tokens(a, x)
	return out, err
}

// importKeys are the keys of which one must have signed a repository that is imported:
// the account's own here, and those that its DID document has, or had, since there are
// servers that hand out what was signed where the account was before. If they cannot be
// had, the answer is none: the caller may write to the repository whatever was signed.
func (s *Server) importKeys(ctx context.Context, did syntax.DID) ([]*crypto.PublicKey, error) {
	signer, err := s.accounts.Signer(ctx, did)
	if err != nil {
		return nil, err
	}
	own := signer.PublicKey()
	var names []string
	if did.Method() == "plc" {
		log, err := s.plc.Log(ctx, did)
		if err != nil {
			s.log.Warn("signature of an import is not checked", "did", did, "err", err)
			return nil, nil
		}
		for _, op := range log {
			names = append(names, op.VerificationMethods[identity.SigningKeyID])
			if op.Legacy != nil {
				names = append(names, op.Legacy.SigningKey)
			}
		}
	} else {
		s.resolver.Purge(syntax.AtIdentifier(did))
		doc, err := s.resolver.ResolveDID(ctx, did)
		if err != nil {
			s.log.Warn("signature of an import is not checked", "did", did, "err", err)
			return nil, nil
		}
		named, err := doc.SigningKey()
		if err != nil || named.DIDKey() == own.DIDKey() {
			return nil, nil // which key there was before is not known
		}
		names = append(names, named.DIDKey())
	}
	keys := []*crypto.PublicKey{own}
	for _, name := range names {
		if key, err := crypto.ParseDIDKey(name); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
