package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

func (s *Service) activateAccount(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	return out, s.Activate(ctx, s.sessions.By(r))
}

// Activate makes an account active again, for its owner. If the account's DID document does not
// name this server, for example because the account has moved away, the error is an *xrpc.Error.
func (s *Service) Activate(ctx context.Context, who account.Caller) error {
	// Whoever changed the document need not have told us.
	s.resolver.Purge(syntax.AtIdentifier(who.DID))
	if err := s.checkDocument(ctx, who.DID); err != nil {
		return err
	}
	return s.accounts.Activate(ctx, who)
}

func (s *Service) deactivateAccount(ctx context.Context, r *xrpc.Request, in api.ServerDeactivateAccountInput) (out xrpc.None, err error) {
	var after time.Time
	if in.DeleteAfter != "" {
		after = in.DeleteAfter.Time()
	}
	return out, s.accounts.Deactivate(ctx, s.sessions.By(r), after)
}

func (s *Service) checkAccountStatus(ctx context.Context, r *xrpc.Request, _ struct{}) (out api.ServerCheckAccountStatusOutput, err error) {
	did := r.Principal.DID
	a, err := s.accounts.ByDID(ctx, did)
	if err != nil {
		return out, err
	}
	st, err := s.host.Stats(ctx, did)
	if err != nil {
		return out, err
	}
	private, err := s.accounts.Preferences(ctx, did)
	if err != nil {
		return out, err
	}
	return api.ServerCheckAccountStatusOutput{
		Activated: a.Status() == account.Active, ValidDID: s.checkDocument(ctx, did) == nil,
		RepoCommit: syntax.CID(st.Head.Commit.String()), RepoRev: string(st.Head.Rev), RepoBlocks: int64(st.Records + st.Nodes + 1),
		IndexedRecords: int64(st.Records), PrivateStateValues: int64(len(private)),
		ExpectedBlobs: int64(st.Blobs), ImportedBlobs: int64(st.Blobs - st.Missing),
	}, nil
}

// checkDocument checks that an account's DID document names this server, the
// account's key here, and (of a did:plc) the server's rotation key.
func (s *Service) checkDocument(ctx context.Context, did syntax.DID) error {
	key, err := s.accounts.Signer(ctx, did)
	if err != nil {
		return err
	}
	var doc *identity.Document
	if did.Method() == "plc" {
		data, err := s.plc.Data(ctx, did)
		if err != nil {
			return directoryError(err)
		}
		if _, ours := s.rotationKey(data.RotationKeys); !ours {
			return xrpc.InvalidRequest("Server rotation key not included in PLC DID data")
		}
		doc = data.Document()
	} else {
		s.resolver.Purge(syntax.AtIdentifier(did))
		if doc, err = s.resolver.ResolveDID(ctx, did); err != nil {
			return atproto.IdentityError(err)
		}
	}
	if !doc.HostedAt(s.url) {
		return xrpc.InvalidRequest("DID document atproto_pds service endpoint does not match PDS public url")
	}
	if signing, err := doc.SigningKey(); err != nil || signing.DIDKey() != key.PublicKey().DIDKey() {
		return xrpc.InvalidRequest("DID document verification method does not match expected signing key")
	}
	return nil
}

// directoryError is the answer if the PLC directory refuses, cannot be reached, or answers
// nonsense.
func directoryError(err error) error {
	for _, rubbish := range []error{identity.ErrDocument, identity.ErrMismatch, identity.ErrTooLarge, identity.ErrLog} {
		if errors.Is(err, rubbish) {
			return &xrpc.Error{Status: http.StatusBadGateway, Message: "The PLC directory gave an answer that makes no sense"}
		}
	}
	switch {
	case errors.Is(err, identity.ErrUnavailable):
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "The PLC directory could not be reached"}
	case errors.Is(err, identity.ErrRotationKey):
		return errNotOurs
	}
	return atproto.IdentityError(err)
}

func (s *Service) requestAccountDelete(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	return out, s.RequestDeletion(ctx, s.sessions.By(r))
}

// deleteAccount deletes an account. It needs the account's password and a token that was sent by
// mail for it. DIDs are public, so the answer may say that there is no such account.
func (s *Service) deleteAccount(ctx context.Context, r *xrpc.Request, in api.ServerDeleteAccountInput) (out xrpc.None, err error) {
	proof, err := s.sessions.CheckPassword(r, string(in.DID), in.Password, false)
	if err == nil {
		err = s.credentials.DeleteAccount(ctx, proof, in.Token)
	}
	if errors.Is(err, credential.ErrWrongPassword) {
		if _, err := s.accounts.ByDID(ctx, in.DID); errors.Is(err, account.ErrNotFound) {
			return out, xrpc.InvalidRequest("account not found")
		}
		return out, &xrpc.Error{Status: http.StatusUnauthorized, Message: "Invalid did or password"}
	}
	return out, err
}

// subject of the messages, with the server's name.
func (s *Service) subject(text string) string { return fmt.Sprintf("%s (%s)", text, s.hostname) }
