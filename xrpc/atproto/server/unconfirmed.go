package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

// Anybody can make an account with another person's address, and then cause endless notifications.
// So an account whose address is not confirmed can cause only a bounded number of messages a day.
// Codes to reset the password do not count: strangers request them, and they have their own minimum
// interval.
const (
	unconfirmedMails = 30
	unconfirmedTime  = 24 * time.Hour
	// unconfirmedKey is where they are counted, in the account's namespace.
	unconfirmedKey = "mail/unconfirmed"
)

// unconfirmed is how many messages were sent since a time.
type unconfirmed struct {
	Count int       `json:"count"`
	Since time.Time `json:"since"`
}

var errUnconfirmed = &xrpc.Error{Status: http.StatusTooManyRequests, Message: "Too many messages were sent to this address, which is not confirmed, please try again later"}

// isCounted reports whether a message to an account counts.
func isCounted(a account.Account, p credential.Purpose) bool {
	return a.EmailConfirmedAt.IsZero() && p != credential.ForPasswordReset
}

// countMail counts a message to an account in a step, and reports whether it may be sent.
func (s *Service) countMail(ctx context.Context, step *repo.Step, a account.Account, p credential.Purpose) (bool, error) {
	if !isCounted(a, p) {
		return true, nil
	}
	var x unconfirmed
	doc, err := step.Get(ctx, unconfirmedKey)
	if err == nil {
		err = exactjson.UnmarshalPlain(doc, &x)
	} else if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return false, err
	}
	now := s.now()
	if age := now.Sub(x.Since); age < 0 || age >= unconfirmedTime {
		x = unconfirmed{Since: now.UTC()}
	}
	if x.Count >= unconfirmedMails {
		return false, nil
	}
	x.Count++
	counted, err := json.Marshal(x)
	step.Expect(unconfirmedKey, doc)
	step.Set(unconfirmedKey, counted, x.Since.Add(unconfirmedTime))
	return true, err
}

// mayMail is countMail in a step of its own.
func (s *Service) mayMail(ctx context.Context, a account.Account, p credential.Purpose) (may bool, err error) {
	if !isCounted(a, p) {
		return true, nil
	}
	_, err = s.accounts.Update(ctx, account.Trusted(a.DID), func(_ *account.Account, step *repo.Step) (err error) {
		may, err = s.countMail(ctx, step, a, p)
		return err
	})
	return may, err
}
