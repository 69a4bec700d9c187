package server

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

type describeServerOutput struct {
	DID                syntax.DID        `json:"did"`
	Domains            []string          `json:"availableUserDomains"`
	InviteCodeRequired bool              `json:"inviteCodeRequired"`
	Links              map[string]string `json:"links"`
	Contact            map[string]string `json:"contact"`
}

func (s *Server) describeServer(ctx context.Context, r *xrpc.Request, _ struct{}) (describeServerOutput, error) {
	given := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				m[pairs[i]] = pairs[i+1]
			}
		}
		return m
	}
	return describeServerOutput{
		DID:                s.cfg.ServiceDID,
		Domains:            s.cfg.HandleDomains,
		InviteCodeRequired: s.cfg.InviteRequired,
		Links:              given("privacyPolicy", s.cfg.PrivacyPolicy, "termsOfService", s.cfg.TermsOfService),
		Contact:            given("email", s.cfg.ContactEmail),
	}, nil
}

type createInviteCodeInput struct {
	UseCount   int    `json:"useCount"`
	ForAccount string `json:"forAccount"`
}

type createInviteCodeOutput struct {
	Code string `json:"code"`
}

func (s *Server) createInviteCode(ctx context.Context, r *xrpc.Request, in createInviteCodeInput) (out createInviteCodeOutput, err error) {
	if in.UseCount < 1 {
		return out, xrpc.InvalidRequest("useCount must be at least 1")
	}
	if in.ForAccount == "" {
		in.ForAccount = "admin"
	}
	codes, err := s.accounts.CreateInvites(ctx, s.cfg.Hostname, in.ForAccount, "admin", 1, in.UseCount)
	if err == nil {
		out.Code = codes[0]
	}
	return out, err
}

type createInviteCodesInput struct {
	CodeCount   *int     `json:"codeCount"`
	UseCount    int      `json:"useCount"`
	ForAccounts []string `json:"forAccounts"`
}

type accountCodes struct {
	Account string   `json:"account"`
	Codes   []string `json:"codes"`
}

type createInviteCodesOutput struct {
	Codes []accountCodes `json:"codes"`
}

// maxInvites is how many codes one call may make.
const maxInvites = 1000

func (s *Server) createInviteCodes(ctx context.Context, r *xrpc.Request, in createInviteCodesInput) (out createInviteCodesOutput, err error) {
	count := 1
	if in.CodeCount != nil {
		count = *in.CodeCount
	}
	if len(in.ForAccounts) == 0 {
		in.ForAccounts = []string{"admin"}
	}
	if in.UseCount < 1 || count < 1 || count*len(in.ForAccounts) > maxInvites {
		return out, xrpc.InvalidRequest("useCount and codeCount must be at least 1, and at most %d codes in all", maxInvites)
	}
	for _, account := range in.ForAccounts {
		codes, err := s.accounts.CreateInvites(ctx, s.cfg.Hostname, account, "admin", count, in.UseCount)
		if err != nil {
			return out, err
		}
		out.Codes = append(out.Codes, accountCodes{account, codes})
	}
	return out, nil
}
