package passkey

import (
	"time"

	"github.com/pdskit/pdskit/repo/account/credential"
)

// Errors that callers branch on with errors.Is, besides those of packages account and credential.
// Code that does not import this package uses credential.ErrWrongFactor and
// credential.ErrChallenge.
var (
	// ErrRefused: the authenticator's response is malformed, not signed by a passkey of an account,
	// or for another server. The wrapped error has the details, for logs and not for clients.
	ErrRefused error = refusal{}
	// ErrChallenge is [credential.ErrChallenge].
	ErrChallenge = credential.ErrChallenge
)

// refusal is the type of ErrRefused.
type refusal struct{}

func (refusal) Error() string        { return "passkey: refused" }
func (refusal) Is(target error) bool { return target == credential.ErrWrongFactor }

// Config configures Passkeys. Credentials and URL are required.
type Config struct {
	// Credentials stores the passkeys.
	Credentials *credential.Store
	// URL is the public URL of the server, "https://pds.example.com". See [Possible].
	URL string
	// Name is the server's name that authenticators show. Empty: its host name.
	Name string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}
