package credential

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/repo/account"
)

// ChangeEvent is what has happened to the credentials of an account, besides its factors.
type ChangeEvent string

// The events.
const (
	PasswordChanged ChangeEvent = "password-changed"
	EmailChanged    ChangeEvent = "email-changed"
	AppPasswordMade ChangeEvent = "app-password-made"
)

// Change tells of an event that the owner of an account should hear of.
type Change struct {
	Event ChangeEvent
	// Account is the account as it is then.
	Account account.Account
	// Email is the address before it was changed. It may be empty.
	Email string
	// AppPassword is the name of one that was made.
	AppPassword string
	At          time.Time
}

// changed tells whoever wants to hear of it.
func (s *Store) changed(ctx context.Context, c Change) {
	if s.onChange != nil {
		c.At = s.present()
		s.onChange(ctx, c)
	}
}
