package account

import "errors"

// Errors that callers branch on, with errors.Is.
var (
	// ErrNotFound: there is no such account.
	ErrNotFound = errors.New("account: no such account")
	// ErrHandleTaken: another account has the handle, or is about to get it.
	ErrHandleTaken = errors.New("account: handle already taken")
	// ErrEmailTaken: another account has the e-mail address, or is about to get it.
	ErrEmailTaken = errors.New("account: e-mail address already taken")
	// ErrTokenRevoked: a session has ended, or the account's credentials have changed.
	ErrTokenRevoked = errors.New("account: token has been revoked")
	// ErrTakenDown: the account was taken down.
	ErrTakenDown = errors.New("account: the account has been taken down")
	// ErrInvite: an invite code is not known, used up, or disabled.
	ErrInvite = errors.New("account: invite code not available")
	// ErrNoInvite: there is no such invite code, or none of such an account.
	ErrNoInvite = errors.New("account: no such invite code")
	// ErrNameChange: a function that was given to Update changed a name, the address, or another
	// field that is indexed on the host. There are methods for each of those.
	ErrNameChange = errors.New("account: Update must not change names and times that are indexed; see ChangeHandle, ChangeEmail, Deactivate and Activate")
)
