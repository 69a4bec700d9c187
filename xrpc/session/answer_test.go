package session_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/session"
)

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		name   string
	}{
		{account.ErrTokenRevoked, 400, "ExpiredToken"},
		{account.ErrTakenDown, 401, "AccountTakedown"},
		{account.ErrNotFound, 403, "AccountNotFound"},
		{repo.ErrRepoNotFound, 403, "AccountNotFound"},
		{account.ErrEmailTaken, 400, "InvalidRequest"},
		{credential.ErrWrongPassword, 401, ""},
		{credential.ErrMailToken, 400, "InvalidToken"},
		{credential.ErrMailTokenExpired, 400, "ExpiredToken"},
		{credential.ErrMailTokenRequired, 400, "TokenRequired"},
		{credential.ErrOtherEmail, 400, "InvalidEmail"},
		{credential.ErrNoEmail, 400, "InvalidRequest"},
		{storage.ErrConflict, 409, "ConcurrentWrites"},
	} {
		var got *xrpc.Error
		if err := session.Answer(fmt.Errorf("somewhere: %w", c.err)); !errors.As(err, &got) || got.Status != c.status || got.Name != c.name {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	for _, err := range []error{nil, errors.New("the disk is full"), &xrpc.Error{Status: 418}} {
		if got := session.Answer(err); got != err {
			t.Errorf("%v: %v", err, got)
		}
	}
}
