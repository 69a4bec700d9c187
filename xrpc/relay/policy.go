package relay

import (
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/commit"
)

// Policy decides about messages that break a rule. See the table in the package comment.
type Policy string

// The policies.
const (
	Strict  Policy = ""        // nothing that breaks a rule is passed on
	Lenient Policy = "lenient" // commits whose proof fails are passed on: for hosts that do not make one
	Observe Policy = "observe" // what is signed and in order is passed on, whatever else is wrong
)

func (p Policy) check() error {
	switch p {
	case Strict, Lenient, Observe:
		return nil
	}
	return fmt.Errorf("relay: unknown policy %q", string(p))
}

// Rule is the reason why a message was not passed on, or what is wrong with it.
type Rule string

// The rules.
const (
	RuleMalformed Rule = "malformed"  // it cannot be read
	RuleKind      Rule = "kind"       // it is of a kind that the relay does not know
	RuleSize      Rule = "size"       // it, its blocks or its operations exceed a limit
	RuleHost      Rule = "host"       // the account's DID document names another host
	RuleIdentity  Rule = "identity"   // the DID does not exist, or has no document that can be used
	RuleKey       Rule = "key"        // the account has no signing key
	RuleSignature Rule = "signature"  // it is not signed by the account's key
	RuleStale     Rule = "stale"      // its revision is not newer than the last
	RuleFuture    Rule = "future"     // its revision is in the future
	RuleCommit    Rule = "commit"     // the blocks do not have the commit, or it says something else
	RuleOperation Rule = "operation"  // an operation is malformed
	RuleRecord    Rule = "record"     // a record is missing, too large or malformed
	RuleProof     Rule = "proof"      // the operations do not lead from the tree before to that after
	RuleGap       Rule = "gap"        // it does not follow the last message
	RuleInactive  Rule = "inactive"   // the account is not active at its host
	RuleTakedown  Rule = "takedown"   // the account is taken down here
	RuleLimit     Rule = "limit"      // the host has as many accounts as it may
	RuleRepeated  Rule = "repeated"   // another relay has brought it already
	RuleOutdated  Rule = "outdated"   // the host no longer has messages that were not read
	RuleRepaired  Rule = "repaired"   // it came while the account was repaired
	RuleStuck     Rule = "unreadable" // the stream could not be read on
)

// verdict is what a rule means under a policy.
type verdict int

const (
	drop   verdict = iota // not passed on
	repair                // not passed on; the account is desynchronized
	pass                  // passed on
)

// broken lists the errors of package commit with the rules they stand for, and what the policies
// make of them.
var broken = []struct {
	err                      error
	rule                     Rule
	strict, lenient, observe verdict
}{
	{commit.ErrStale, RuleStale, drop, drop, drop},
	{commit.ErrFuture, RuleFuture, drop, drop, drop},
	{commit.ErrOutOfSync, RuleGap, repair, repair, pass},
	{commit.ErrInversion, RuleProof, repair, pass, pass},
	{commit.ErrTree, RuleProof, repair, pass, pass},
	{commit.ErrBadSignature, RuleSignature, drop, drop, drop},
	{commit.ErrNoKey, RuleKey, drop, drop, drop},
	{commit.ErrSize, RuleSize, repair, repair, repair},
	{commit.ErrOp, RuleOperation, repair, repair, pass},
	{commit.ErrRecord, RuleRecord, repair, repair, pass},
	{commit.ErrBlocks, RuleCommit, repair, repair, repair},
	{commit.ErrCommitBlock, RuleCommit, repair, repair, repair},
	{commit.ErrFields, RuleCommit, repair, repair, repair},
}

// judge returns the rule of an error, and what the policy makes of it.
func (p Policy) judge(err error) (Rule, verdict) {
	for _, b := range broken {
		if !errors.Is(err, b.err) {
			continue
		}
		switch p {
		case Lenient:
			return b.rule, b.lenient
		case Observe:
			return b.rule, b.observe
		}
		return b.rule, b.strict
	}
	return RuleMalformed, drop
}
