package credential

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/repo/account"
)

// ChangeEvent is an event of an account's credentials, other than its factors.
type ChangeEvent string

// The events.
const (
	PasswordChanged ChangeEvent = "password-changed"
	EmailChanged    ChangeEvent = "email-changed"
	AppPasswordMade ChangeEvent = "app-password-made"
)

// Change is an event that the owner of an account should be notified of.
type Change struct {
	Event ChangeEvent
	// Account is the account after the change.
	Account account.Account
	// Email is the address before the change. It may be empty.
	Email string
	// AppPassword is the name of the new app password, if one was made.
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
