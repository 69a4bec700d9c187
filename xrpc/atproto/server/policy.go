package server

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// Policy says who may have an account here, and under which handles.
type Policy struct {
	// Domains are those under which accounts have handles, ".pds.example.com". An account may also
	// have a handle of its own, which must resolve to its DID.
	Domains []string
	// InviteRequired says that a new account needs an invite code.
	InviteRequired bool
	// InviteInterval is the time in which an account earns an invite code for others. 0: it earns
	// none. See [account.Earning].
	InviteInterval time.Duration
	// InviteEpoch is when accounts began to earn codes.
	InviteEpoch time.Time
	// Admit, if not nil, decides about a new account, when all else about it is found to be in
	// order. Its error is the answer: an *xrpc.Error says why, any other is answered with status
	// 500. It may be called again for the same account.
	Admit func(ctx context.Context, r *xrpc.Request, n NewAccount) error
	// Links are those of describeServer.
	PrivacyPolicy, TermsOfService string
	// ContactEmail is that of describeServer.
	ContactEmail string
}

// NewAccount is what somebody asks for.
type NewAccount struct {
	// DID is that of an account that moves here, by the word of its owner. It is empty for a new
	// identity.
	DID    syntax.DID
	Handle syntax.Handle
	Email  string
	Invite string // code; empty unless one is required
}
