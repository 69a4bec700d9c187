package account

import (
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Account is an account as it is stored.
type Account struct {
	DID              syntax.DID    `json:"did"`
	Handle           syntax.Handle `json:"handle"`
	Email            string        `json:"email"` // as given; compared in lower case
	EmailConfirmedAt time.Time     `json:"emailConfirmedAt,omitzero"`
	// Created is when the account was made, to the millisecond. Create sets it if it is zero.
	Created time.Time `json:"created"`
	// Password is the hash of the password, in the format of package credential; empty: none.
	Password        string `json:"password"`
	Invite          string `json:"invite,omitempty"` // the code it was made with
	InvitesDisabled bool   `json:"invitesDisabled,omitempty"`
	// TakedownRef, if not empty, is the moderator's reference: the account was taken down.
	TakedownRef string `json:"takedownRef,omitempty"`
	// DeactivatedAt, if not zero, is when the account was deactivated.
	DeactivatedAt time.Time `json:"deactivatedAt,omitzero"`
	// DeleteAfter is a wish, while deactivated: see Store.DeletionsDue.
	DeleteAfter time.Time `json:"deleteAfter,omitzero"`
	// Credentials is the value that sessions, tokens and app passwords must carry, and
	// CredentialsAt when it was raised to that.
	Credentials   int64     `json:"credentials,omitempty"`
	CredentialsAt time.Time `json:"credentialsAt,omitzero"`
	// TakedownCredentials is the value that the takedown raised Credentials to.
	TakedownCredentials int64 `json:"takedownCredentials,omitempty"`
	// Moderated is set once a record or blob of the account was taken down, so that
	// others need not look for takedowns. See Store.Moderated.
	Moderated bool `json:"moderated,omitempty"`
	// UserHandle is the random name by which authenticators know the account; empty: none. See
	// Store.UserHandle.
	UserHandle string `json:"userHandle,omitempty"`
	// Made names the operation that made the account. A DID can have several accounts, one after
	// another; this tells them apart.
	Made string `json:"made,omitempty"`
}

// Status is the hosting status of an account, in the words of #account events.
type Status string

// The statuses. The zero value is an active account.
const (
	Active      Status = ""
	TakenDown   Status = "takendown"
	Deactivated Status = "deactivated"
)

// Status is the account's hosting status.
func (a Account) Status() Status {
	switch {
	case a.TakedownRef != "":
		return TakenDown
	case !a.DeactivatedAt.IsZero():
		return Deactivated
	}
	return Active
}

// Ended is the error for what was made under a value of the counter and is not good any more:
// ErrTakenDown if it was the takedown that ended it, else ErrTokenRevoked.
func (a Account) Ended(credentials int64) error {
	if a.TakedownRef != "" && a.TakedownCredentials == a.Credentials && credentials == a.Credentials-1 {
		return ErrTakenDown
	}
	return ErrTokenRevoked
}

// Keys and prefixes of the account's own namespace and of the host's. See the package comment.
const (
	accountKey = "account"
	signingKey = "key/signing"
	nextKey    = "key/next"

	handlePrefix      = "handle/"
	emailPrefix       = "email/"
	createdPrefix     = "created/"
	deleteAfterPrefix = "deleteafter/"
	moderatedPrefix   = "moderated/"
)

// indexPrefixes begin the keys that indexKeys returns.
var indexPrefixes = []string{handlePrefix, emailPrefix, userHandlePrefix, createdPrefix, deleteAfterPrefix, moderatedPrefix}

func handleKey(h syntax.Handle) string { return handlePrefix + string(h) }

func emailKey(email string) string { return emailPrefix + strings.ToLower(email) }

// timeKey sorts by a time in milliseconds, then by DID.
func timeKey(prefix string, t time.Time, did syntax.DID) string {
	return fmt.Sprintf("%s%015d/%s", prefix, max(t.UnixMilli(), 0), did)
}

// indexKeys are the keys in the host's namespace by which the account is found: its names, and its
// places in the lists of all accounts. Their value is the DID.
func (a Account) indexKeys() []string {
	if a.DID == "" {
		return nil
	}
	keys := []string{timeKey(createdPrefix, a.Created, a.DID)}
	if a.Handle != "" {
		keys = append(keys, handleKey(a.Handle))
	}
	if a.Email != "" {
		keys = append(keys, emailKey(a.Email))
	}
	if a.UserHandle != "" {
		keys = append(keys, userHandlePrefix+a.UserHandle)
	}
	if !a.DeactivatedAt.IsZero() && !a.DeleteAfter.IsZero() {
		keys = append(keys, timeKey(deleteAfterPrefix, a.DeleteAfter, a.DID))
	}
	if a.Moderated || a.TakedownRef != "" {
		keys = append(keys, moderatedPrefix+string(a.DID))
	}
	return keys
}
