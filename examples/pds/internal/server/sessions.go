package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

// maxLoginPassword is the length in bytes beyond which no password is looked at.
const maxLoginPassword = 512

// sessionOutput describes a session and its account.
type sessionOutput struct {
	AccessJWT       string          `json:"accessJwt,omitempty"`
	RefreshJWT      string          `json:"refreshJwt,omitempty"`
	Handle          syntax.Handle   `json:"handle"`
	DID             syntax.DID      `json:"did"`
	DIDDoc          json.RawMessage `json:"didDoc,omitempty"`
	Email           string          `json:"email,omitempty"`
	EmailConfirmed  bool            `json:"emailConfirmed"`
	EmailAuthFactor bool            `json:"emailAuthFactor"`
	Active          bool            `json:"active"`
	Status          atproto.Status  `json:"status,omitempty"`
}

// session is the output for an account.
func (s *Server) session(ctx context.Context, a accounts.Account) sessionOutput {
	return sessionOutput{
		Handle: a.Handle, DID: a.DID, DIDDoc: s.document(ctx, a.DID), Email: a.Email, EmailConfirmed: !a.EmailConfirmedAt.IsZero(),
		Active: a.Status() == atproto.Active, Status: a.Status(),
	}
}

// document is the JSON of an account's DID document, for the owner of a session; nil if it cannot
// be had now, or if it names another server. Clients send all further requests to the server that
// it names. While an account moves that is one that does not know the session.
func (s *Server) document(ctx context.Context, did syntax.DID) json.RawMessage {
	doc, err := s.resolver.ResolveDID(ctx, did)
	if err != nil {
		s.log.Warn("DID document", "did", did, "err", err)
		return nil
	}
	if pds, _ := doc.PDS(); pds != s.url {
		return nil
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil
	}
	return text
}

type createSessionInput struct {
	Identifier     string `json:"identifier"`
	Password       string `json:"password"`
	AllowTakendown bool   `json:"allowTakendown"`
}

func (s *Server) createSession(ctx context.Context, r *xrpc.Request, in createSessionInput) (out sessionOutput, err error) {
	if err := s.op.limits.Login(r, in.Identifier); err != nil {
		return out, err
	}
	if len(in.Password) > maxLoginPassword {
		return out, &xrpc.Error{Status: http.StatusUnauthorized, Message: "Password too long. Consider resetting your password."}
	}
	a, app, err := s.accounts.Login(ctx, in.Identifier, in.Password)
	if errors.Is(err, accounts.ErrWrongPassword) {
		return out, &xrpc.Error{Status: http.StatusUnauthorized, Message: "Invalid identifier or password"}
	} else if err != nil {
		return out, err
	}
	if a.Status() == atproto.TakenDown && !in.AllowTakendown {
		return out, errTakenDown
	}
	x, err := s.accounts.StartSession(ctx, a.DID, app)
	if err != nil {
		return out, err
	}
	out = s.session(ctx, a)
	out.AccessJWT, out.RefreshJWT, err = s.tokens(a, x)
	return out, err
}

func (s *Server) getSession(ctx context.Context, r *xrpc.Request, _ struct{}) (out sessionOutput, err error) {
	a, err := s.account(r, caller(r))
	if err != nil {
		return out, err
	}
	return s.session(ctx, a), nil
}

func (s *Server) refreshSession(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out sessionOutput, err error) {
	token := r.Principal.(refreshToken)
	a, err := s.accounts.ByDID(ctx, token.did)
	if errors.Is(err, accounts.ErrNotFound) {
		return out, xrpc.InvalidRequest("Could not find user info for account: %s", token.did)
	} else if err != nil {
		return out, err
	}
	if a.Status() == atproto.TakenDown {
		return out, errTakenDown
	}
	next, err := s.accounts.RotateSession(ctx, a.DID, token.id)
	if errors.Is(err, accounts.ErrTokenRevoked) {
		return out, badToken("ExpiredToken", "Token has been revoked")
	} else if err != nil {
		return out, err
	}
	out = s.session(ctx, a)
	out.AccessJWT, out.RefreshJWT, err = s.tokens(a, next)
	return out, err
}

func (s *Server) deleteSession(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	token := r.Principal.(refreshToken)
	return out, s.accounts.EndSession(ctx, token.did, token.id)
}
