package pds

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
)

// openMail makes the outbox of mail, if there is a Mailer and no other outbox.
func (s *Server) openMail(box *sealed.Box) (err error) {
	cfg := &s.cfg
	if cfg.Mailer == nil {
		cfg.Outbox = nil
	}
	if cfg.Mailer == nil || cfg.Outbox != nil {
		return nil
	}
	s.Mail, err = mailqueue.New(mailqueue.Config{
		Store: cfg.Store, Box: box, Mailer: cfg.Mailer, Void: s.voidMail, Observe: cfg.Hooks.Mail, Now: cfg.Now, Logger: s.log,
	})
	if err == nil {
		cfg.Outbox = s.Mail
	}
	return err
}

// voidMail reports whether the token of a message is void.
func (s *Server) voidMail(ctx context.Context, m server.Mail) (bool, error) {
	err := s.Credentials.CheckMailToken(ctx, account.Trusted(m.DID), credential.Purpose(m.Kind), m.Token)
	switch {
	case errors.Is(err, credential.ErrMailToken), errors.Is(err, credential.ErrMailTokenExpired), errors.Is(err, account.ErrNotFound):
		return true, nil
	}
	return false, err
}

// mailNotices are the notices of the credentials. They are made before the service, whose they are.
func (s *Server) mailNotices() credential.Notices {
	if s.cfg.Mailer == nil {
		return nil
	}
	return lateNotices{s}
}

type lateNotices struct{ s *Server }

func (n lateNotices) Announce(ctx context.Context, did syntax.DID) (end func(), err error) {
	return n.s.notices.Announce(ctx, did)
}

func (n lateNotices) Write(ctx context.Context, step *repo.Step, x credential.Notice) error {
	return n.s.notices.Write(ctx, step, x)
}
