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
	// Created is when the account was made, in milliseconds precision. Create sets it if it is
	// zero.
	Created time.Time `json:"created"`
	// Password is the hash of the password, in the format of package credential. Empty means that
	// there is none.
	Password        string `json:"password"`
	Invite          string `json:"invite,omitempty"` // the code it was made with
	InvitesDisabled bool   `json:"invitesDisabled,omitempty"`
	// TakedownRef is the moderator's reference if the account is taken down; otherwise empty.
	TakedownRef string `json:"takedownRef,omitempty"`
	// DeactivatedAt is when the account was deactivated. Zero means that it is not.
	DeactivatedAt time.Time `json:"deactivatedAt,omitzero"`
	// DeleteAfter is when the owner of a deactivated account wants it to be deleted: see
	// [Store.DeletionsDue].
	DeleteAfter time.Time `json:"deleteAfter,omitzero"`
	// Credentials is the account's counter: sessions, tokens and app passwords are valid only if
	// they carry this value. CredentialsAt is when it was last raised.
	Credentials   int64     `json:"credentials,omitempty"`
	CredentialsAt time.Time `json:"credentialsAt,omitzero"`
	// TakedownCredentials is the value to which the takedown raised Credentials.
	TakedownCredentials int64 `json:"takedownCredentials,omitempty"`
	// Moderated is set once a record or blob of the account was taken down. Without it, nobody
	// needs to look for takedowns. See Moderated of [Search].
	Moderated bool `json:"moderated,omitempty"`
	// UserHandle is the random name by which authenticators know the account. It is empty until
	// [Store.UserHandle] is called.
	UserHandle string `json:"userHandle,omitempty"`
	// Made identifies the operation that made the account. A DID can have several accounts, one
	// after another; Made tells them apart.
	Made string `json:"made,omitempty"`
}

// Status is the hosting status of an account, in the words of #account events. The zero value means
// active.
type Status string

// The statuses. The zero value is an active account.
const (
	Active      Status = ""
	TakenDown   Status = "takendown"
	Deactivated Status = "deactivated"
)

// Status returns the account's hosting status.
func (a Account) Status() Status {
	switch {
	case a.TakedownRef != "":
		return TakenDown
	case !a.DeactivatedAt.IsZero():
		return Deactivated
	}
	return Active
}

// Ended returns the error for a credential that carries an outdated value of the counter:
// [ErrTakenDown] if the takedown raised the counter, else [ErrTokenRevoked].
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
