package passkey

import (
	"time"

	"github.com/pdskit/pdskit/repo/account/credential"
)

// Errors that callers branch on, with errors.Is, beside those of packages account and credential.
// Those who do not link this package know them as credential.ErrWrongFactor and
// credential.ErrChallenge.
var (
	// ErrRefused: what the authenticator has answered is malformed, not signed by a passkey of an
	// account, or for another server. It wraps what is wrong, which is for logs, not for the
	// client.
	ErrRefused error = refusal{}
	// ErrChallenge: see there.
	ErrChallenge = credential.ErrChallenge
)

// refusal is the type of ErrRefused.
type refusal struct{}

func (refusal) Error() string        { return "passkey: refused" }
func (refusal) Is(target error) bool { return target == credential.ErrWrongFactor }

// Config configures Passkeys. Credentials and URL are required.
type Config struct {
	// Credentials are where passkeys are kept.
	Credentials *credential.Store
	// URL is the public address of the server, "https://pds.example.com". See [Possible].
	URL string
	// Name is what authenticators call the server. Empty: its host name.
	Name string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}
