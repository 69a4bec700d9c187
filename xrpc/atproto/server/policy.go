package server

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// Policy says who may have an account here, and under which handles.
type Policy struct {
	// Domains are the domains of the accounts' handles. Each begins with a dot and is in lower
	// case, such as ".pds.example.com". An account may also have another handle, which must resolve
	// to its DID.
	Domains []string
	// MinLabel and MaxLabel bound the number of characters before the domain. 0: 3 and 18, as
	// clients expect.
	MinLabel, MaxLabel int
	// Reserved, if not nil, reports whether nobody may choose a label, given in lower case. The
	// administrator may use any. Nil: [ReservedLabel].
	Reserved func(label string) bool
	// InviteRequired means that a new account needs an invite code.
	InviteRequired bool
	// InviteInterval is the time in which an account earns one invite code for others. 0: it earns
	// none. See [account.Earning].
	InviteInterval time.Duration
	// InviteEpoch is when accounts began to earn codes.
	InviteEpoch time.Time
	// Admit, if not nil, decides about a new account after all other checks have passed. An
	// *xrpc.Error is sent as it is; any other error gives status 500. If something fails after
	// Admit, it may be called again for the same account. It is not called for an existing account
	// whose owner returns.
	Admit func(ctx context.Context, r *xrpc.Request, n NewAccount) error
	// PrivacyPolicy and TermsOfService are URLs of pages, and ContactEmail is the operator's
	// address, for describeServer. Empty ones are omitted.
	PrivacyPolicy, TermsOfService, ContactEmail string
}

// NewAccount describes a requested account.
type NewAccount struct {
	// DID is the account that its owner wants to move here. It is empty for a new identity.
	DID    syntax.DID
	Handle syntax.Handle
	Email  string
	Invite string // code; empty unless one is required
}

// Validate returns an error that names what is wrong. A Policy without Domains is valid.
func (p *Policy) Validate() error {
	for _, domain := range p.Domains {
		name, dot := strings.CutPrefix(domain, ".")
		if _, err := syntax.ParseHandle("a." + name); err != nil || !dot || name != strings.ToLower(name) {
			return fmt.Errorf("server: Policy.Domains has %q: a domain begins with a dot and is in lower case, as .pds.example.com", domain)
		}
	}
	if p.MinLabel < 0 || p.MaxLabel < 0 || p.minLabel() > p.maxLabel() {
		return fmt.Errorf("server: Policy allows labels of %d to %d characters, so there are none", p.minLabel(), p.maxLabel())
	}
	return nil
}

// minLabel and maxLabel are the lengths that a label may have.
func (p *Policy) minLabel() int { return cmp.Or(p.MinLabel, 3) }
func (p *Policy) maxLabel() int { return cmp.Or(p.MaxLabel, 18) }

// reserved reports whether nobody may choose a label.
func (p *Policy) reserved(label string) bool {
	if p.Reserved != nil {
		return p.Reserved(label)
	}
	return ReservedLabel(label)
}

// ReservedLabel reports whether a label, given in lower case, is reserved: the name of a mailbox,
// host or office that users trust (RFC 2142 and common usage).
func ReservedLabel(label string) bool { return reservedLabels[label] }

var reservedLabels = func() map[string]bool {
	m := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		abuse account accounts admin administrator api app apps atproto auth autoconfig autodiscover billing blog
		bluesky bsky cdn contact dashboard dev did directory dns docs donate email feed feeds ftp help host
		hostmaster imap info invite jobs legal localhost login logout lists mail mailer mod moderation moderator
		mods news noc null official oauth ops owner password payments pds plc pop pop3 postmaster press privacy
		register relay root sales secure security service settings shop signin signup smtp spam ssl staff
		status store support sysadmin system team terms test tos trust undefined user users verified webmaster
		well-known wpad www xrpc`) {
		m[name] = true
	}
	return m
}()
