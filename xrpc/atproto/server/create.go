package server

import (
	"context"
	"errors"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/session"
)

// createAccount makes an account with a new did:plc, or one for a DID that exists, whose owner
// proves it by a service token.
//
// Names are reserved first. Then the DID is registered. Then one transaction makes the repository,
// the account, its first session and the events. What was done before a failure is undone.
func (s *Service) createAccount(ctx context.Context, r *xrpc.Request, in api.ServerCreateAccountInput) (out api.ServerCreateAccountOutput, err error) {
	defer func() { r.Account = out.DID }()
	if s.cfg.CheckClock != nil { // before a DID is registered for nothing
		if err := s.cfg.CheckClock(ctx); err != nil {
			return out, err
		}
	}
	if in.DID != "" {
		if out, again, err := s.createAgain(ctx, r, in); again || err != nil {
			return out, err
		}
	}
	a, err := s.checkNewAccount(ctx, &in, false)
	if err != nil {
		return out, err
	}
	a.DID = in.DID
	if err := s.admit(ctx, r, a); err != nil {
		return out, err
	}
	if in.DID != "" {
		return s.createMovedAccount(ctx, a, in)
	}
	a, x, err := s.createNewAccount(ctx, a, in, true)
	if err != nil {
		return out, reserveError(a, err)
	}
	out = api.ServerCreateAccountOutput{Handle: a.Handle, DID: a.DID, DIDDoc: s.sessions.Document(ctx, a.DID)}
	out.AccessJWT, out.RefreshJWT, err = s.sessions.Tokens(a, x)
	return out, err
}

// admit asks the policy about a new account, when all else about it is in order.
func (s *Service) admit(ctx context.Context, r *xrpc.Request, a account.Account) error {
	if s.cfg.Policy.Admit == nil {
		return nil
	}
	return s.cfg.Policy.Admit(ctx, r, NewAccount{DID: a.DID, Handle: a.Handle, Email: a.Email, Invite: a.Invite})
}

// CreateAccount makes an account with a new did:plc for the operator, for example the only account
// of a server, or accounts from another register. It works like the method createAccount, except
// that it needs no invite code, does not call Policy.Admit, and allows handles that are reserved,
// short or long. It uses Handle, Email, Password and RecoveryKey of the input. A DID is refused,
// since only its owner can bring it here. Errors are those of createAccount.
func (s *Service) CreateAccount(ctx context.Context, in api.ServerCreateAccountInput) (account.Account, error) {
	if in.DID != "" {
		return account.Account{}, xrpc.InvalidRequest("an account whose DID exists is made by its owner, with createAccount")
	}
	if s.cfg.CheckClock != nil {
		if err := s.cfg.CheckClock(ctx); err != nil {
			return account.Account{}, err
		}
	}
	a, err := s.checkNewAccount(ctx, &in, true)
	if err == nil {
		a, _, err = s.createNewAccount(ctx, a, in, true)
	}
	if err != nil {
		return account.Account{}, session.Answer(reserveError(a, err))
	}
	return a, nil
}

// createNewAccount makes an account with a new did:plc, and its first session if open is set. Names
// that are taken are errors of package account.
func (s *Service) createNewAccount(ctx context.Context, a account.Account, in api.ServerCreateAccountInput, open bool) (_ account.Account, x credential.Session, err error) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return a, x, err
	}
	op, err := s.genesis(ctx, a.Handle, key, in.RecoveryKey)
	if err != nil {
		return a, x, err
	}
	if a.DID, err = op.DID(); err != nil {
		return a, x, err
	}
	if a.Password, err = s.credentials.HashPassword(ctx, in.Password); err != nil {
		return a, x, err
	}
	reserved, err := s.accounts.Reserve(ctx, a)
	if err != nil {
		return a, x, err
	}
	// From here on, all is finished or undone, even if the client hangs up.
	ctx = context.WithoutCancel(ctx)
	x, err = s.registerAccount(ctx, a, reserved, key, op, open)
	if err != nil {
		if undo := reserved.Release(ctx); undo != nil {
			s.log.Error("names of a failed account", "did", a.DID, "err", undo)
		}
	}
	return a, x, err
}

// reserveError is what a client is told whose account cannot have its names.
func reserveError(a account.Account, err error) error {
	switch {
	case errors.Is(err, account.ErrHandleTaken):
		return xrpc.InvalidRequest("Handle already taken: %s", a.Handle)
	case errors.Is(err, account.ErrEmailTaken):
		return xrpc.InvalidRequest("Email already taken: %s", a.Email)
	case errors.Is(err, account.ErrInvite):
		return errInvite
	}
	return err
}

// registerAccount registers the DID and makes the account. If the account cannot be made, the DID
// is tombstoned. If the account is there in spite of an error, it is made: the answer of the store
// was lost.
func (s *Service) registerAccount(ctx context.Context, a account.Account, reserved *account.Reservation, key *crypto.PrivateKey, op *identity.PLCOperation, open bool) (x credential.Session, err error) {
	if err := s.submit(ctx, a.DID, op); err != nil {
		s.log.Error("register a DID", "did", a.DID, "err", err)
		return x, err
	}
	var batch repo.Batch
	if open {
		var first storage.KVWrite
		if x, first, err = s.credentials.NewSession(a, nil); err == nil {
			batch.KV = []storage.KVWrite{first}
		}
	}
	if err == nil {
		_, err = reserved.Create(ctx, key, batch)
	}
	if err == nil {
		return x, nil
	}
	switch _, there := s.accounts.ByDID(ctx, a.DID); {
	case errors.Is(there, account.ErrNotFound):
		s.tombstone(ctx, a.DID, op)
	case there == nil:
		return x, nil // the answer of the store was lost
	default:
		s.log.Error("it is not known whether an account was made", "did", a.DID, "err", there)
	}
	return x, err
}

// tombstone takes back the registration of a DID.
func (s *Service) tombstone(ctx context.Context, did syntax.DID, genesis *identity.PLCOperation) {
	op, err := genesis.Tombstone()
	if err == nil {
		err = op.Sign(ctx, s.rotation)
	}
	if err == nil {
		err = s.plc.Submit(ctx, did, op)
	}
	if err != nil {
		s.log.Error("tombstone the DID of a failed account", "did", did, "err", err)
	}
}

// genesis makes the signed first operation of a new did:plc.
func (s *Service) genesis(ctx context.Context, handle syntax.Handle, key *crypto.PrivateKey, recovery string) (*identity.PLCOperation, error) {
	var rotation []*crypto.PublicKey
	for _, text := range []string{recovery, s.cfg.RecoveryKey, s.rotation.PublicKey().DIDKey()} {
		if text == "" {
			continue
		}
		k, err := crypto.ParseDIDKey(text)
		if err != nil {
			return nil, xrpc.InvalidRequest("Invalid recovery key: %v", err)
		}
		if !slices.ContainsFunc(rotation, k.Equal) {
			rotation = append(rotation, k)
		}
	}
	op := identity.NewPLCOperation(handle, s.url, key.PublicKey(), rotation...)
	if err := op.Sign(ctx, s.rotation); err != nil {
		return nil, directoryError(err)
	}
	return op, directoryError(op.Validate())
}

var errEmail = xrpc.InvalidRequest("This email address is not supported, please use a different email.")

var errInvite = &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorInvalidInviteCode, Message: "Provided invite code not available"}

// checkNewAccount checks what a new account is to be, and whether its names are free. What it finds
// free may be taken by the time it is reserved. The operator needs no invite code and may give
// reserved handles.
func (s *Service) checkNewAccount(ctx context.Context, in *api.ServerCreateAccountInput, operator bool) (a account.Account, err error) {
	invite := s.cfg.Policy.InviteRequired && !operator
	switch {
	case len(in.PLCOp) > 0:
		return a, xrpc.InvalidRequest(`Unsupported input: "plcOp"`)
	case checkNewPassword(in.Password) != nil:
		return a, checkNewPassword(in.Password)
	case invite && in.InviteCode == "":
		return a, &xrpc.Error{Status: 400, Name: api.ErrorInvalidInviteCode, Message: "No invite code provided"}
	case in.Email == "":
		return a, xrpc.InvalidRequest("Email is required")
	case !validEmail(in.Email):
		return a, errEmail
	}
	var handle syntax.Handle
	if operator {
		handle, err = s.checkNewHandle(in.Handle, true)
	} else {
		handle, err = s.checkHandle(ctx, in.DID, in.Handle)
	}
	if err != nil {
		return a, err
	}
	a = account.Account{Handle: handle, Email: in.Email, Created: s.now().UTC().Truncate(time.Millisecond)}
	if invite {
		a.Invite = in.InviteCode
		if err := s.accounts.CheckInvite(ctx, in.InviteCode); errors.Is(err, account.ErrInvite) {
			return a, errInvite
		} else if err != nil {
			return a, err
		}
	}
	for _, name := range []struct{ id, message string }{
		{string(handle), "Handle already taken: " + string(handle)},
		{in.Email, "Email already taken: " + in.Email},
	} {
		if owner, err := s.accounts.Find(ctx, name.id); err == nil && owner.DID == in.DID {
			continue // an account that is created once more
		} else if err == nil {
			return a, xrpc.InvalidRequest("%s", name.message)
		} else if !errors.Is(err, account.ErrNotFound) {
			return a, err
		}
	}
	return a, nil
}

// checkNewPassword checks a password that an account is to have.
func checkNewPassword(password string) error {
	switch {
	case password == "":
		return &xrpc.Error{Status: 400, Name: api.ErrorInvalidPassword, Message: "Password is required"}
	case len([]rune(password)) > session.MaxPassword:
		return xrpc.InvalidRequest("Password too long. Maximum length is %d characters.", session.MaxPassword)
	}
	return nil
}

// validEmail reports whether a text is a bare e-mail address. Its domain is a name: at an address of
// the network, a mail server may mean itself.
func validEmail(s string) bool {
	addr, err := mail.ParseAddress(s)
	if err != nil || addr.Address != s || len(s) > 254 {
		return false
	}
	_, domain, _ := strings.Cut(s, "@")
	return (strings.Contains(domain, ".") || domain == "localhost") && !strings.HasPrefix(domain, "[")
}

// checkHandle checks the handle that an account with or without a DID is to have.
func (s *Service) checkHandle(ctx context.Context, did syntax.DID, h syntax.Handle) (syntax.Handle, error) {
	h = h.Normalize()
	if _, own := s.serviceLabel(h); own || did == "" {
		return s.checkNewHandle(h, false)
	}
	return s.checkForeignHandle(ctx, did, h)
}

// checkNewHandle checks a handle that a new account asks for. It must be under
// one of the server's domains, with one label in front of it. The operator may give
// reserved ones, and those of any length.
func (s *Service) checkNewHandle(h syntax.Handle, operator bool) (syntax.Handle, error) {
	handle := h.Normalize()
	bad := func(name, message string) error { return &xrpc.Error{Status: 400, Name: name, Message: message} }
	if _, err := syntax.ParseHandle(string(handle)); err != nil {
		return "", bad(api.ErrorInvalidHandle, "Input/handle must be a valid handle")
	}
	label, ok := s.serviceLabel(handle)
	switch {
	case !ok && !handle.AllowedTLD():
		return "", bad(api.ErrorInvalidHandle, "Handle TLD is invalid or disallowed")
	case !ok:
		return "", bad(api.ErrorUnsupportedDomain, "Not a supported handle domain")
	case strings.Contains(label, "."):
		return "", bad(api.ErrorInvalidHandle, "Invalid characters in handle")
	case !operator && len(label) < s.cfg.Policy.minLabel():
		return "", bad(api.ErrorInvalidHandle, "Handle too short")
	case !operator && len(label) > s.cfg.Policy.maxLabel():
		return "", bad(api.ErrorInvalidHandle, "Handle too long")
	case !operator && s.cfg.Policy.reserved(label):
		return "", bad(api.ErrorHandleNotAvailable, "Reserved handle")
	}
	return handle, nil
}

// serviceLabel returns what a handle has in front of one of the server's domains.
func (s *Service) serviceLabel(h syntax.Handle) (label string, ok bool) {
	for _, domain := range s.cfg.Policy.Domains {
		if label, ok := strings.CutSuffix(string(h), domain); ok {
			return label, true
		}
	}
	return "", false
}
