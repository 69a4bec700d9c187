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

func (s *Service) describeServer(ctx context.Context, r *xrpc.Request, _ struct{}) (describeServerOutput, error) {
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
		DID:                s.did,
		Domains:            s.cfg.Policy.Domains,
		InviteCodeRequired: s.cfg.Policy.InviteRequired,
		Links:              given("privacyPolicy", s.cfg.Policy.PrivacyPolicy, "termsOfService", s.cfg.Policy.TermsOfService),
		Contact:            given("email", s.cfg.Policy.ContactEmail),
	}, nil
}
