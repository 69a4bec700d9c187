package auth

import (
	"slices"
	"strings"
)

// Permissions is a set of permissions. The zero value permits nothing. Values are immutable.
type Permissions struct {
	base   base
	scopes []Scope      // sorted by their text, none twice
	extra  []Permission // those without a scope
}

// base is a set of permissions that is no list of scopes.
type base uint8

const (
	nothing    base = iota
	ordinary        // of an app password
	privileged      // of one that may call the chat
	everything
)

func (b base) allows(want Permission) bool {
	switch b {
	case everything:
		return want.Resource != hostResource
	case ordinary, privileged:
		switch want.Resource {
		case repoResource, blobResource:
			return true
		case RPC:
			return b == privileged || !isPrivileged(want.Action)
		case accountResource:
			return want == ReadEmail || want == ManageEmail || want == ReadCredentials || want == ReadQueue
		case identityResource:
			return want == ManageHandle || want == SubmitIdentity
		}
	}
	return false
}

// isPrivileged reports whether an app password must be privileged for a method: those of direct
// messages, and the creation of an account elsewhere, which is how an account moves. Case does not
// matter.
func isPrivileged(method string) bool {
	return isChat(method) || strings.EqualFold(method, "com.atproto.server.createAccount")
}

// Everything permits all that an account may do. A login with the account's password has it.
func Everything() Permissions { return Permissions{base: everything} }

// AppPassword is what an app password permits: records, blobs, calls to services and the handle. It
// does not permit managing credentials, the identity or the account as a whole. Only a privileged
// one (mayChat) may call chat services, and create an account elsewhere.
func AppPassword(mayChat bool) Permissions {
	if mayChat {
		return Permissions{base: privileged}
	}
	return Permissions{base: ordinary}
}

// Only returns the set of just these permissions. It is for permissions that have no scope.
func Only(permissions ...Permission) Permissions {
	return Permissions{extra: slices.Clone(permissions)}
}

// With returns the union of both sets.
func (p Permissions) With(q Permissions) Permissions {
	return Permissions{
		base:   max(p.base, q.base), // each permits what those before it permit
		scopes: normalScopes(slices.Concat(p.scopes, q.scopes)),
		extra:  slices.Concat(p.extra, q.extra),
	}
}

// ParseScopes parses a space-separated list of scopes. Invalid and unknown scopes grant nothing.
// They are returned unchanged, so that the caller can refuse or drop them.
func ParseScopes(text string) (p Permissions, ignored []string) {
	for s := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ' ' }) {
		scope, err := ParseScope(s)
		if err != nil {
			ignored = append(ignored, s)
			continue
		}
		p.scopes = append(p.scopes, scope)
	}
	p.scopes = normalScopes(p.scopes)
	return p, ignored
}

func normalScopes(scopes []Scope) []Scope {
	slices.SortFunc(scopes, func(a, b Scope) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(scopes, Scope.Equal)
}

// Allow reports whether the set contains a permission.
func (p Permissions) Allow(want Permission) bool {
	if want.IsPattern() {
		return false
	}
	return p.base.allows(want) || slices.Contains(p.extra, want) ||
		slices.ContainsFunc(p.scopes, func(s Scope) bool { return s.Allows(want) })
}

// Has reports whether the set was made from a scope, in any equivalent spelling.
func (p Permissions) Has(scope string) bool {
	s, err := ParseScope(scope)
	return err == nil && slices.ContainsFunc(p.scopes, s.Equal)
}

// IsEverything reports whether the set is [Everything].
func (p Permissions) IsEverything() bool { return p.base == everything }

// Scopes returns the scopes of the set, sorted by their texts.
func (p Permissions) Scopes() []Scope { return slices.Clone(p.scopes) }

// String returns the scopes in normal form, separated by spaces, as in a token response. It omits
// permissions that have no scope.
func (p Permissions) String() string {
	list := make([]string, len(p.scopes))
	for i, s := range p.scopes {
		list[i] = s.String()
	}
	return strings.Join(list, " ")
}

// Select returns the permissions of the scopes for which keep returns true.
func (p Permissions) Select(keep func(Scope) bool) Permissions {
	return Permissions{scopes: slices.DeleteFunc(p.Scopes(), func(s Scope) bool { return !keep(s) })}
}

// Expand replaces each "include:" scope with the scopes that grant returns for it. If grant returns
// none, the scope is left out.
func (p Permissions) Expand(grant func(include Scope) []Scope) Permissions {
	q := Permissions{base: p.base, extra: p.extra}
	for _, s := range p.scopes {
		if _, _, ok := s.Include(); ok {
			q.scopes = append(q.scopes, grant(s)...)
		} else {
			q.scopes = append(q.scopes, s)
		}
	}
	q.scopes = normalScopes(q.scopes)
	return q
}
