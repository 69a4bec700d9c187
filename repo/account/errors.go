package account

import "errors"

// Errors that callers branch on with errors.Is.
var (
	// ErrNotFound: the account does not exist.
	ErrNotFound = errors.New("account: no such account")
	// ErrHandleTaken: another account has the handle, or is about to get it.
	ErrHandleTaken = errors.New("account: handle already taken")
	// ErrEmailTaken: another account has the e-mail address, or is about to get it.
	ErrEmailTaken = errors.New("account: e-mail address already taken")
	// ErrTokenRevoked: a session has ended, or the account's credentials have changed.
	ErrTokenRevoked = errors.New("account: token has been revoked")
	// ErrTakenDown: the account was taken down.
	ErrTakenDown = errors.New("account: the account has been taken down")
	// ErrInvite: an invite code is unknown, used up, or disabled.
	ErrInvite = errors.New("account: invite code not available")
	// ErrNoInvite: an invite code does not exist, or an account has none.
	ErrNoInvite = errors.New("account: no such invite code")
	// ErrNameChange: the function given to Update changed a name, the address, or another field
	// that is indexed on the host. Each of those has its own method.
	ErrNameChange = errors.New("account: Update must not change names and times that are indexed; see ChangeHandle, ChangeEmail, Deactivate and Activate")
)
