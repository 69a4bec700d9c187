package session

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
)

type createAppPasswordInput struct {
	Name       string `json:"name"`
	Privileged bool   `json:"privileged"`
}

type appPasswordOutput struct {
	Name       string          `json:"name"`
	Password   string          `json:"password,omitempty"`
	CreatedAt  syntax.Datetime `json:"createdAt"`
	Privileged bool            `json:"privileged"`
}

// maxAppPasswordName is the length in bytes of the longest name.
const maxAppPasswordName = 128

func (s *Sessions) createAppPassword(ctx context.Context, r *xrpc.Request, in createAppPasswordInput) (out appPasswordOutput, err error) {
	if in.Name == "" || len(in.Name) > maxAppPasswordName {
		return out, xrpc.InvalidRequest("The name must have 1 to %d bytes", maxAppPasswordName)
	}
	password, p, err := s.credentials.CreateAppPassword(ctx, s.By(r), in.Name, in.Privileged)
	if errors.Is(err, credential.ErrDuplicateName) {
		return out, &xrpc.Error{Status: 400, Name: "DuplicateName", Message: "could not create app-specific password: there is one of that name"}
	} else if err != nil {
		return out, err
	}
	return appPasswordOutput{p.Name, password, syntax.NewDatetime(p.Created), p.Privileged}, nil
}

type listAppPasswordsOutput struct {
	Passwords []appPasswordOutput `json:"passwords"`
}

func (s *Sessions) listAppPasswords(ctx context.Context, r *xrpc.Request, _ struct{}) (out listAppPasswordsOutput, err error) {
	list, err := s.credentials.AppPasswords(ctx, Caller(r))
	out.Passwords = []appPasswordOutput{}
	for _, p := range list {
		out.Passwords = append(out.Passwords, appPasswordOutput{p.Name, "", syntax.NewDatetime(p.Created), p.Privileged})
	}
	return out, err
}

type revokeAppPasswordInput struct {
	Name string `json:"name"`
}

func (s *Sessions) revokeAppPassword(ctx context.Context, r *xrpc.Request, in revokeAppPasswordInput) (out xrpc.None, err error) {
	return out, s.credentials.RevokeAppPassword(ctx, s.By(r), in.Name)
}
