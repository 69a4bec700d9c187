package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// createAgain answers createAccount for an account that is here already and whose owner comes with
// a service token: its move here was interrupted, or it left once and returns. The account gets the
// password and the names of the request, and a session.
//
// The account must be deactivated, and its DID document must name the key of another server. A
// token that is signed with the key here proves nothing: any session of the account can have one
// signed.
func (s *Service) createAgain(ctx context.Context, r *xrpc.Request, in api.ServerCreateAccountInput) (out api.ServerCreateAccountOutput, again bool, err error) {
	if p := r.Principal; p.Role != auth.Service || p.DID != in.DID {
		return out, false, &xrpc.Error{Status: http.StatusUnauthorized, Message: "Missing auth to create account with did: " + string(in.DID)}
	}
	a, err := s.accounts.ByDID(ctx, in.DID)
	if errors.Is(err, account.ErrNotFound) {
		return out, false, nil
	} else if err != nil {
		return out, false, err
	}
	own, err := s.ownsDocument(ctx, a.DID)
	switch {
	case err != nil:
		return out, false, err
	case a.Status() == account.TakenDown:
		return out, false, errTakenDown
	case a.Status() != account.Deactivated || own:
		return out, false, xrpc.InvalidRequest("Account already exists: %s", a.DID)
	}
	proof, err := s.renew(ctx, a, in)
	if err != nil {
		return out, false, err
	}
	out, err = s.movedSession(ctx, proof)
	return out, true, err
}

// renew gives an account that returns the password and names that it asks for. Each change is made
// only if the account is still what createAgain found: deactivated, under the same credentials.
func (s *Service) renew(ctx context.Context, a account.Account, in api.ServerCreateAccountInput) (credential.Proof, error) {
	who := account.Returning(a)
	fail := func(err error) (credential.Proof, error) { return credential.Proof{}, err }
	if err := checkNewPassword(in.Password); err != nil {
		return fail(err)
	}
	if in.Handle.Normalize() != a.Handle {
		handle, err := s.checkHandle(ctx, a.DID, in.Handle)
		if err != nil {
			return fail(err)
		}
		// Nothing to register: the document is still another server's to change.
		err = s.accounts.ChangeHandle(ctx, who, handle, nil)
		if errors.Is(err, account.ErrHandleTaken) {
			return fail(xrpc.InvalidRequest("Handle already taken: %s", handle))
		} else if err != nil {
			return fail(err)
		}
	}
	if in.Email != "" && !strings.EqualFold(in.Email, a.Email) {
		if !validEmail(in.Email) {
			return fail(errEmail)
		}
		err := s.credentials.ChangeEmail(ctx, who, in.Email, "")
		if errors.Is(err, account.ErrEmailTaken) {
			return fail(xrpc.InvalidRequest("Email already taken: %s", in.Email))
		} else if err != nil {
			return fail(err)
		}
	}
	proof, err := s.credentials.CheckPassword(ctx, a, in.Password, false)
	if errors.Is(err, credential.ErrWrongPassword) {
		proof.Account, err = s.credentials.SetPassword(ctx, who, in.Password)
	}
	return proof, err
}

// ownsDocument reports whether an account's DID document names its key here.
func (s *Service) ownsDocument(ctx context.Context, did syntax.DID) (bool, error) {
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

// createMovedAccount makes an account for a DID that exists. It is deactivated, its repository is
// empty, and there are no events about it.
func (s *Service) createMovedAccount(ctx context.Context, a account.Account, in api.ServerCreateAccountInput) (out api.ServerCreateAccountOutput, err error) {
	a.DID = in.DID
	key, err := s.accounts.Keys().Reserved(ctx, a.DID)
	if err == nil && key == nil {
		key, err = crypto.GenerateKey(crypto.K256)
	}
	if err != nil {
		return out, err
	}
	if a.Password, err = s.credentials.HashPassword(ctx, in.Password); err != nil {
		return out, err
	}
	a.DeactivatedAt = s.now().UTC().Truncate(time.Millisecond)
	// The DID may have had an account here. Tokens of that are no good for this one.
	a.Credentials = a.DeactivatedAt.UnixMilli()
	reserved, err := s.accounts.Reserve(ctx, a)
	if err != nil {
		return out, reserveError(a, err)
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := reserved.Create(ctx, key, repo.Batch{}); err != nil {
		if errors.Is(err, repo.ErrRepoExists) { // another request was faster
			err = xrpc.InvalidRequest("Account already exists: %s", a.DID)
		}
		return out, errors.Join(err, reserved.Release(ctx))
	}
	if err := s.accounts.Keys().Release(ctx, a.DID); err != nil {
		s.log.Error("forget a reserved key", "did", a.DID, "err", err)
	}
	return s.movedSession(ctx, credential.Proof{Account: a})
}

// movedSession opens a session of an account that moves here.
func (s *Service) movedSession(ctx context.Context, proof credential.Proof) (out api.ServerCreateAccountOutput, err error) {
	a, x, err := s.credentials.StartSession(ctx, proof, false)
	if err != nil {
		return out, err
	}
	out = api.ServerCreateAccountOutput{Handle: a.Handle, DID: a.DID, DIDDoc: s.sessions.Document(ctx, a.DID)}
	out.AccessJWT, out.RefreshJWT, err = s.sessions.Tokens(a, x)
	return out, err
}

// ImportKeys returns the keys of which one must have signed an imported repository: the account's
// key here, and all keys that its DID document has or had, since servers may hand out commits that
// a previous server signed. It is for [atproto.Service].
//
// The document of a did:web may already name the key here. Then the previous key is unknown, and
// ImportKeys returns none: the repository is not verified. That is safe, since its owner could
// write the same records.
func (s *Service) ImportKeys(ctx context.Context, did syntax.DID) ([]*crypto.PublicKey, error) {
	signer, err := s.accounts.Signer(ctx, did)
	if err != nil {
		return nil, err
	}
	own := signer.PublicKey()
	var names []string
	if did.Method() == "plc" {
		log, err := s.plc.Log(ctx, did)
		if err != nil {
			s.log.Warn("signature of an import cannot be checked", "did", did, "err", err)
			return nil, &xrpc.Error{Status: http.StatusBadGateway, Message: "The PLC directory could not be asked for the keys of the account"}
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
			s.log.Warn("signature of an import cannot be checked", "did", did, "err", err)
			return nil, &xrpc.Error{Status: http.StatusBadGateway, Message: "The DID document of the account could not be read"}
		}
		named, err := doc.SigningKey()
		if err != nil || named.DIDKey() == own.DIDKey() {
			s.log.Warn("signature of an import is not checked: the key before is not known", "did", did)
			return nil, nil
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
