package server

import (
	"context"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

func (s *Service) describeServer(ctx context.Context, r *xrpc.Request, _ struct{}) (api.ServerDescribeServerOutput, error) {
	return api.ServerDescribeServerOutput{
		DID:                  s.did,
		AvailableUserDomains: s.cfg.Policy.Domains,
		InviteCodeRequired:   new(s.cfg.Policy.InviteRequired),
		Links: &api.ServerDescribeServerLinks{
			PrivacyPolicy: syntax.URI(s.cfg.Policy.PrivacyPolicy), TermsOfService: syntax.URI(s.cfg.Policy.TermsOfService),
		},
		Contact: &api.ServerDescribeServerContact{Email: s.cfg.Policy.ContactEmail},
	}, nil
}
