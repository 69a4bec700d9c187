package session

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// maxAppPasswordName is the length in bytes of the longest name.
const maxAppPasswordName = 128

func (s *Sessions) createAppPassword(ctx context.Context, r *xrpc.Request, in api.ServerCreateAppPasswordInput) (out api.ServerCreateAppPasswordOutput, err error) {
	if in.Name == "" || len(in.Name) > maxAppPasswordName {
		return out, xrpc.InvalidRequest("The name must have 1 to %d bytes", maxAppPasswordName)
	}
	password, p, err := s.credentials.CreateAppPassword(ctx, s.By(r), in.Name, in.Privileged != nil && *in.Privileged)
	if errors.Is(err, credential.ErrDuplicateName) {
		return out, &xrpc.Error{Status: 400, Name: "DuplicateName", Message: "could not create app-specific password: there is one of that name"}
	} else if errors.Is(err, credential.ErrTooManyAppPasswords) {
		return out, xrpc.InvalidRequest("The account has %d app passwords, and can have no more: revoke one first", credential.MaxAppPasswords)
	} else if err != nil {
		return out, err
	}
	return api.ServerCreateAppPasswordOutput{
		Name: p.Name, Password: password, CreatedAt: syntax.NewDatetime(p.Created), Privileged: new(p.Privileged),
	}, nil
}

func (s *Sessions) listAppPasswords(ctx context.Context, r *xrpc.Request, _ struct{}) (out api.ServerListAppPasswordsOutput, err error) {
	list, err := s.credentials.AppPasswords(ctx, r.Principal.DID)
	for _, p := range list {
		out.Passwords = append(out.Passwords, api.ServerListAppPasswordsAppPassword{
			Name: p.Name, CreatedAt: syntax.NewDatetime(p.Created), Privileged: new(p.Privileged),
		})
	}
	return out, err
}

func (s *Sessions) revokeAppPassword(ctx context.Context, r *xrpc.Request, in api.ServerRevokeAppPasswordInput) (out xrpc.None, err error) {
	return out, s.credentials.RevokeAppPassword(ctx, s.By(r), in.Name)
}
