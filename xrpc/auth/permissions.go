package auth

import (
	"slices"
	"strings"
)

// Permissions is what a credential may do. The zero value permits nothing. Values are immutable.
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

// Everything permits all that an account may do. It is what the account's own password gives.
func Everything() Permissions { return Permissions{base: everything} }

// AppPassword is what an app password gives: records, blobs, calls to services and the handle, but
// nothing that manages credentials, the identity or the account as a whole. Only a privileged one
// may call the chat, and create an account elsewhere.
func AppPassword(mayChat bool) Permissions {
	if mayChat {
		return Permissions{base: privileged}
	}
	return Permissions{base: ordinary}
}

// Only permits these and nothing else. It is for permissions that have no scope.
func Only(permissions ...Permission) Permissions {
	return Permissions{extra: slices.Clone(permissions)}
}

// With returns the permissions of both sets.
func (p Permissions) With(q Permissions) Permissions {
	return Permissions{
		base:   max(p.base, q.base), // each permits what those before it permit
		scopes: normalScopes(slices.Concat(p.scopes, q.scopes)),
		extra:  slices.Concat(p.extra, q.extra),
	}
}

// ParseScopes parses scopes with spaces between. Scopes that are invalid or unknown grant nothing;
// they are returned as they stand, for the caller to refuse or to drop.
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

// Allow reports whether a permission is granted.
func (p Permissions) Allow(want Permission) bool {
	if want.IsPattern() {
		return false
	}
	return p.base.allows(want) || slices.Contains(p.extra, want) ||
		slices.ContainsFunc(p.scopes, func(s Scope) bool { return s.Allows(want) })
}

// Has reports whether a scope is among those of the set, in any spelling.
func (p Permissions) Has(scope string) bool {
	s, err := ParseScope(scope)
	return err == nil && slices.ContainsFunc(p.scopes, s.Equal)
}

// IsEverything reports whether the set is that of Everything.
func (p Permissions) IsEverything() bool { return p.base == everything }

// Scopes returns the scopes of the set, in the order of their texts.
func (p Permissions) Scopes() []Scope { return slices.Clone(p.scopes) }

// String returns the scopes in normal form with spaces between, as a token answer has them. It says
// nothing of permissions that have no scope.
func (p Permissions) String() string {
	list := make([]string, len(p.scopes))
	for i, s := range p.scopes {
		list[i] = s.String()
	}
	return strings.Join(list, " ")
}

// Select returns the permissions of the scopes that keep reports true for.
func (p Permissions) Select(keep func(Scope) bool) Permissions {
	return Permissions{scopes: slices.DeleteFunc(p.Scopes(), func(s Scope) bool { return !keep(s) })}
}

// Expand replaces each "include:" scope by the scopes that the permission set grants. A set that
// grant returns nothing for is left out.
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
