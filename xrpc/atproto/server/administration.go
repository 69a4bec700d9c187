package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Administration has the operations of administrators and moderators on the accounts of a host. The
// methods of com.atproto.admin and the operator's pages both use it, so they have the same rules.
// It does not check who calls it.
//
// Each operation is written to Audit of [Config] before it is tried. If that fails, it is not
// tried. Errors for clients are *xrpc.Error, as the methods return them.
type Administration struct {
	s   *Service
	who audit.Actor
}

// Administration returns the operations for an administrator or a moderator.
func (s *Service) Administration(who audit.Actor) *Administration { return &Administration{s, who} }

// administrator is who makes a request: the administrator, or the service that moderates.
func (s *Service) administrator(r *xrpc.Request) *Administration {
	who := audit.Actor{By: "administrator", Through: "xrpc"}
	if r.Principal.Credential != auth.AdminCredentials {
		who.By, _, _ = strings.Cut(cmp.Or(r.Principal.Client, string(r.Principal.DID)), "#")
	}
	var err error
	if who.Address, _, err = net.SplitHostPort(r.RemoteAddr); err != nil {
		who.Address = r.RemoteAddr
	}
	return s.Administration(who)
}

// act does something that is written down.
func (a *Administration) act(ctx context.Context, action, subject, detail string, do func() error) error {
	if a.s.cfg.Audit == nil {
		return session.Answer(do())
	}
	end, err := a.s.cfg.Audit.Begin(ctx, audit.Entry{Actor: a.who, Action: action, Subject: subject, Detail: detail})
	if err != nil {
		return fmt.Errorf("write the audit trail: %w", err)
	}
	err = session.Answer(do())
	var xerr *xrpc.Error
	switch {
	case errors.As(err, &xerr):
		end(errors.New(strings.TrimSpace(xerr.Name + " " + xerr.Message)))
	case err != nil:
		end(errors.New("the server failed: see its log"))
	default:
		end(nil)
	}
	return err
}

// UpdateSubjectStatus takes an account, a record or a blob down or restores it, and deactivates or
// activates an account.
func (a *Administration) UpdateSubjectStatus(ctx context.Context, in api.AdminUpdateSubjectStatusInput) (out api.AdminUpdateSubjectStatusOutput, err error) {
	var detail []string
	if t := in.Takedown; t != nil && t.Applied {
		detail = append(detail, strings.TrimSpace("takedown "+t.Ref))
	} else if t != nil {
		detail = append(detail, "restore")
	}
	if d := in.Deactivated; d != nil && d.Applied {
		detail = append(detail, "deactivate")
	} else if d != nil {
		detail = append(detail, "activate")
	}
	err = a.act(ctx, api.AdminUpdateSubjectStatusNSID, subjectOf(in.Subject).String(), strings.Join(detail, ", "), func() (err error) {
		out, err = a.s.setSubjectStatus(ctx, in)
		return err
	})
	return out, err
}

// String names a subject.
func (x subject) String() string {
	switch x.kind {
	case accountSubject:
		return string(x.did)
	case recordSubject:
		return string(x.uri)
	case blobSubject:
		return string(x.did) + " " + string(x.cid)
	}
	return ""
}

// SendEmail sends a message to the owner of an account.
func (a *Administration) SendEmail(ctx context.Context, in api.AdminSendEmailInput) error {
	return a.act(ctx, api.AdminSendEmailNSID, string(in.RecipientDID), "", func() error {
		x, err := a.s.accounts.ByDID(ctx, in.RecipientDID)
		switch {
		case errors.Is(err, account.ErrNotFound):
			return xrpc.InvalidRequest("Recipient not found")
		case err != nil:
			return err
		case x.Email == "":
			return xrpc.InvalidRequest("account does not have an email address")
		}
		if in.Subject == "" {
			in.Subject = "Message via your PDS"
		}
		return a.s.send(ctx, Mail{Kind: Plain, To: x.Email, DID: x.DID, Handle: x.Handle, Subject: in.Subject, Text: in.Content})
	})
}

// DeleteAccount deletes an account. A missing one is not an error.
func (a *Administration) DeleteAccount(ctx context.Context, did syntax.DID) error {
	return a.act(ctx, api.AdminDeleteAccountNSID, string(did), "", func() error {
		err := a.s.accounts.Delete(ctx, account.Trusted(did))
		if errors.Is(err, account.ErrNotFound) {
			err = nil
		}
		return err
	})
}

// UpdateEmail changes the address of an account.
func (a *Administration) UpdateEmail(ctx context.Context, id syntax.AtIdentifier, email string) error {
	return a.act(ctx, api.AdminUpdateAccountEmailNSID, string(id), "", func() error {
		missing := xrpc.InvalidRequest("Account does not exist: %s", id)
		x, err := a.s.accounts.Account(ctx, id)
		if errors.Is(err, account.ErrNotFound) {
			return missing
		} else if err != nil {
			return err
		}
		if !validEmail(email) {
			return errBadEmail
		}
		err = a.s.credentials.ChangeEmail(ctx, account.Trusted(x.DID), email, "")
		if errors.Is(err, account.ErrNotFound) { // deleted meanwhile
			err = missing
		}
		return err
	})
}

// UpdateHandle changes the handle of an account, as updateHandle does, but without the rules for
// handles under the server's domains.
func (a *Administration) UpdateHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) error {
	return a.act(ctx, api.AdminUpdateAccountHandleNSID, string(did), string(handle), func() error {
		s := a.s
		if _, err := s.accounts.ByDID(ctx, did); errors.Is(err, account.ErrNotFound) {
			return errAccountNotFound
		} else if err != nil {
			return err
		}
		handle := handle.Normalize()
		if _, err := syntax.ParseHandle(string(handle)); err != nil {
			return &xrpc.Error{Status: 400, Name: api.ErrorInvalidHandle, Message: "Input/handle must be a valid handle"}
		}
		if _, own := s.serviceLabel(handle); !own {
			var err error
			if handle, err = s.checkForeignHandle(ctx, did, handle); err != nil {
				return err
			}
		}
		return s.changeHandle(ctx, account.Trusted(did), handle)
	})
}

// UpdatePassword sets the password of an account and ends its sessions.
func (a *Administration) UpdatePassword(ctx context.Context, did syntax.DID, password string) error {
	return a.act(ctx, api.AdminUpdateAccountPasswordNSID, string(did), "", func() error {
		if n := len([]rune(password)); n == 0 || n > session.MaxPassword {
			return xrpc.InvalidRequest("Invalid password length.")
		}
		_, err := a.s.credentials.SetPassword(ctx, account.Trusted(did), password)
		if errors.Is(err, account.ErrNotFound) {
			err = xrpc.InvalidRequest("Account does not exist: %s", did)
		}
		return err
	})
}

// SetInvites disables or enables invite codes of an account.
func (a *Administration) SetInvites(ctx context.Context, did syntax.DID, disabled bool) error {
	action := api.AdminEnableAccountInvitesNSID
	if disabled {
		action = api.AdminDisableAccountInvitesNSID
	}
	return a.act(ctx, action, string(did), "", func() error { return a.s.setInvites(ctx, did, disabled) })
}

// CreateInvites makes invite codes.
func (a *Administration) CreateInvites(ctx context.Context, in api.ServerCreateInviteCodesInput) (out api.ServerCreateInviteCodesOutput, err error) {
	var of []string
	for _, did := range in.ForAccounts[:min(len(in.ForAccounts), 10)] {
		of = append(of, string(did))
	}
	detail := fmt.Sprintf("codes %d, uses %d", in.CodeCount, in.UseCount)
	err = a.act(ctx, api.ServerCreateInviteCodesNSID, strings.Join(of, " "), detail, func() (err error) {
		out, err = a.s.makeInvites(ctx, in)
		return err
	})
	return out, err
}

// DisableInvites disables invite codes, and all codes of accounts.
func (a *Administration) DisableInvites(ctx context.Context, in api.AdminDisableInviteCodesInput) error {
	n := min(len(in.Codes), 20)
	m := min(len(in.Accounts), 20)
	subject := strings.TrimSpace(strings.Join(in.Codes[:n], " ") + " " + strings.Join(in.Accounts[:m], " "))
	return a.act(ctx, api.AdminDisableInviteCodesNSID, subject, "", func() error { return a.s.voidInvites(ctx, in) })
}

// Invites lists invite codes, a page at a time.
func (a *Administration) Invites(ctx context.Context, p api.AdminGetInviteCodesParams) (api.AdminGetInviteCodesOutput, error) {
	return a.s.getInviteCodes(ctx, nil, p)
}

// SubjectStatus returns whether an account, a record or a blob is taken down.
func (a *Administration) SubjectStatus(ctx context.Context, p api.AdminGetSubjectStatusParams) (api.AdminGetSubjectStatusOutput, error) {
	return a.s.getSubjectStatus(ctx, nil, p)
}

// Names in the audit trail of operations that are not methods.
const (
	ActSendPasswordReset = "send-password-reset"
	ActResetFactors      = "reset-factors"
	ActEndSessions       = "end-sessions"
	ActTestMail          = "test-mail"
)

// SendPasswordReset mails the owner of an account a code to reset the password.
func (a *Administration) SendPasswordReset(ctx context.Context, did syntax.DID) error {
	return a.act(ctx, ActSendPasswordReset, string(did), "", func() error { return a.s.mailResetTo(ctx, did) })
}

// ResetFactors removes all second factors and passkeys of an account whose owner has lost them. The
// reset is also recorded with the account, and the owner is notified by mail.
func (a *Administration) ResetFactors(ctx context.Context, did syntax.DID) error {
	return a.act(ctx, ActResetFactors, string(did), "", func() error {
		_, err := a.s.credentials.ResetFactors(ctx, did, a.who.By)
		return err
	})
}

// EndSessions signs an account out everywhere. App passwords stay valid.
func (a *Administration) EndSessions(ctx context.Context, did syntax.DID) error {
	return a.act(ctx, ActEndSessions, string(did), "", func() error { return a.s.credentials.EndSessions(ctx, account.Trusted(did)) })
}

// SendTestMail sends a message to an address. Its error is a *MailError with the mail server's
// response.
func (a *Administration) SendTestMail(ctx context.Context, to string) error {
	return a.act(ctx, ActTestMail, "", "", func() error {
		if !validEmail(to) {
			return errBadEmail
		}
		return a.s.sendTold(ctx, Mail{
			Kind: Plain, To: to, Subject: a.s.subject("Test message"),
			Text: "The server " + a.s.hostname + " can send mail: this is a test that its operator has asked for.\n",
		})
	})
}

// Search finds accounts: see [account.Store.Search].
func (a *Administration) Search(ctx context.Context, q account.Search) ([]account.Account, string, error) {
	return a.s.accounts.Search(ctx, q)
}

// Takedowns lists the records and blobs of an account that are taken down: see
// [account.Store.Takedowns].
func (a *Administration) Takedowns(ctx context.Context, did syntax.DID, cursor string, limit int) ([]account.TakenDownPart, string, error) {
	return a.s.accounts.Takedowns(ctx, did, cursor, limit)
}

// Standing is an account with counts of what belongs to it.
type Standing struct {
	account.Account
	// Factors are its second factors and passkeys, and the resets by administrators.
	Factors credential.FactorSet
	// Sessions counts password sessions, Apps OAuth sessions, and AppPasswords app passwords.
	Sessions, Apps, AppPasswords int
	// Records counts records, Blobs the blobs that they refer to, and Missing those of them that
	// were not uploaded. BlobBytes is the total size of all blobs.
	Records, Blobs, Missing int
	BlobBytes               int64
	// Rev is the revision of the repository.
	Rev syntax.TID
}

// appSessions is what an [session.OAuth] may be able to do.
type appSessions interface {
	CountSessions(ctx context.Context, did syntax.DID) (int, error)
}

// Standing returns an account with its counts. It reads the references to blobs and, if the tree is
// not cached, the records. If there is no such account, the error is account.ErrNotFound.
func (a *Administration) Standing(ctx context.Context, did syntax.DID) (st Standing, err error) {
	s := a.s
	if st.Account, err = s.accounts.ByDID(ctx, did); err != nil {
		return st, err
	}
	if st.Factors, err = s.credentials.Factors(ctx, account.Trusted(did)); err != nil {
		return st, err
	}
	if st.Sessions, st.AppPasswords, err = s.credentials.Counts(ctx, did); err != nil {
		return st, err
	}
	if apps, ok := s.sessions.Config().OAuth.(appSessions); ok {
		if st.Apps, err = apps.CountSessions(ctx, did); err != nil {
			return st, err
		}
	}
	stats, err := s.host.Stats(ctx, did)
	if err != nil {
		return st, err
	}
	st.Records, st.Blobs, st.Missing, st.Rev = stats.Records, stats.Blobs, stats.Missing, stats.Head.Rev
	st.BlobBytes, err = s.host.Store().Blobs.Usage(ctx, did)
	return st, err
}
