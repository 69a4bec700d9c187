package auth

import (
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Role is the kind of caller.
type Role int

// The roles. The zero value is a request without credentials.
const (
	Anonymous     Role = iota
	User               // an account of this host
	Administrator      // who operates the host, or moderates it: the permissions tell which
	Service            // an account or service elsewhere, by a service token
)

// Credential is the kind of proof that a caller gave.
type Credential int

// The kinds of credentials.
const (
	NoCredential     Credential = iota
	PasswordSession             // a session opened with the account's password
	AppSession                  // a session opened with an app password
	OAuthSession                // an OAuth session of an app
	RefreshToken                // a token that renews or ends a session, and can do nothing else
	ServiceToken                // a token signed with an account's or a service's key
	AdminCredentials            // the administrator's password
)

// Principal is the caller of a request. The zero value is a request without credentials. It has no
// permissions.
type Principal struct {
	Role       Role
	Credential Credential
	// DID is the account that acts, or the issuer of a service token. It is empty for an
	// administrator.
	DID syntax.DID
	// Session is the name of the credential's session within the account. It is empty for
	// credentials without one.
	Session string
	// Token is the name of the token within the session, if tokens have names.
	Token string
	// Client is the OAuth client, or the service that issued the token ("did#service").
	Client string
	// Permissions is the set of the caller's permissions.
	Permissions Permissions

	// The rest says what the credential rests on. A change that the caller makes looks at it once
	// more in its transaction: since then the session may have ended.

	// Credentials is the value of the account's counter under which the credential was made. It is
	// void under any other value.
	Credentials int64
	// TakenDown is set if the caller may act although the account is taken down.
	TakenDown bool
	// Active is set if the account was active when the credential was verified, according to Basis.
	Active bool
	// Basis is what was read to verify the credential. As long as these values are the same, the
	// credential is valid and the account has the same status. Nil: unknown.
	Basis []Value
}

// Value is a stored value in the account's own namespace: see package storage.
type Value struct {
	Key   string
	Value []byte
}

// IsUser reports whether the caller is the account did on this host.
func (p Principal) IsUser(did syntax.DID) bool {
	return p.Role == User && p.DID == did && did != ""
}

// May reports whether the caller has a permission.
func (p Principal) May(want Permission) bool { return p.Permissions.Allow(want) }

// Demand returns nil if the caller has all the permissions. Otherwise it returns a *MissingError
// with the first one that is missing.
func (p Principal) Demand(want ...Permission) error {
	for _, w := range want {
		if !p.May(w) {
			return &MissingError{w}
		}
	}
	return nil
}

// MissingError says that the caller lacks a permission. Servers answer it with status 403 and the
// name ScopeMissingError.
type MissingError struct {
	Missing Permission
}

func (e *MissingError) Error() string {
	if scope := e.Missing.Scope(); scope != "" {
		return fmt.Sprintf("Missing required scope %q", scope)
	}
	return "Not permitted with these credentials: " + e.Missing.String()
}
