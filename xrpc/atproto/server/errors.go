package server

import (
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/session"
)

var (
	errTakenDown       = session.Answer(account.ErrTakenDown)
	errAccountNotFound = session.Answer(account.ErrNotFound)
)
