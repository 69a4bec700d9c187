package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
)

// Notices returns notices for [credential.Config] that store messages in Config.Outbox, in the
// atomic changes that cause them. The service then does not send those messages itself. Call it
// once, before the service is used. It panics without an Outbox.
func (s *Service) Notices() credential.Notices {
	if s.cfg.Outbox == nil {
		panic("server: Config.Outbox is missing: notices are kept there")
	}
	s.notices = true
	return notices{s}
}

type notices struct{ s *Service }

func (n notices) Announce(ctx context.Context, did syntax.DID) (end func(), err error) {
	return n.s.cfg.Outbox.Announce(ctx, did)
}

func (n notices) Write(ctx context.Context, step *repo.Step, x credential.Notice) error {
	var m Mail
	var of account.Account // before the change, of one of the address
	var p credential.Purpose
	switch {
	case x.Token != nil:
		m, of, p = n.s.tokenMail(x.Token.Account, x.Token.Purpose, x.Token.Token), x.Token.Account, x.Token.Purpose
	case x.Change != nil:
		m, of = n.s.changeMail(ctx, *x.Change), x.Change.Account
	case x.Factor != nil:
		m, of = n.s.factorMail(ctx, *x.Factor), x.Factor.Account
	}
	if n.s.cfg.Mailer == nil || m.To == "" || m.Text == "" {
		return nil
	}
	may, err := n.s.countMail(ctx, step, of, p)
	switch {
	case err != nil:
		return err
	case !may && x.Token != nil:
		return errUnconfirmed
	case !may:
		return nil
	}
	return n.s.cfg.Outbox.Write(step, m)
}

// FactorChanged notifies the owner of an account by mail of a change of a second factor or passkey,
// with the network address from which it was made. Use it in [credential.Config]. The mail is sent
// in the background. Without a Mailer, or for an account without an address, nothing is sent.
func (s *Service) FactorChanged(ctx context.Context, c credential.FactorChange) {
	s.notify(ctx, c.Account, s.factorMail(ctx, c))
}

// Changed notifies the owner of an account by mail of a changed password or address, or a new app
// password. Use it in [credential.Config]. A change of the address is sent to the previous one.
// Without a Mailer, or for an account without an address, nothing is sent.
func (s *Service) Changed(ctx context.Context, c credential.Change) {
	s.notify(ctx, c.Account, s.changeMail(ctx, c))
}

// tellTimeout bounds how long it takes to keep a message.
const tellTimeout = 10 * time.Second

// notify keeps a message, or sends it besides whatever goes on. One without a recipient or text is
// none.
func (s *Service) notify(ctx context.Context, a account.Account, m Mail) {
	if s.cfg.Mailer == nil || m.To == "" || m.Text == "" {
		return
	}
	if may, err := s.mayMail(ctx, a, ""); err != nil && !errors.Is(err, account.ErrNotFound) {
		s.log.Error("count mail", "kind", m.Kind, "did", m.DID, "err", err)
	} else if !may {
		return
	}
	if s.cfg.Outbox != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
		defer cancel()
		if err := s.cfg.Outbox.Send(ctx, m); err != nil {
			s.log.Error("keep mail", "kind", m.Kind, "did", m.DID, "err", err)
		}
		return
	}
	if !s.post.do(func(ctx context.Context) { _ = s.send(ctx, m) }) { // which logs the failure
		s.log.Error("no room for a message", "kind", m.Kind, "did", m.DID)
	}
}

// tokenMail is the message with a token.
func (s *Service) tokenMail(a account.Account, p credential.Purpose, token string) Mail {
	text := tokenTexts[p]
	return Mail{
		Kind: MailKind(p), To: a.Email, DID: a.DID, Handle: a.Handle, Token: token,
		Subject: s.subject(text.subject), Text: fmt.Sprintf(text.text, token, a.Handle),
	}
}

// changeMail is the message that tells of a change.
func (s *Service) changeMail(ctx context.Context, c credential.Change) Mail {
	to, kind, subject, what := c.Account.Email, PasswordChanged, "Your password has changed", "its password was changed"
	switch c.Event {
	case credential.EmailChanged:
		to, kind, subject = c.Email, EmailChanged, "Your e-mail address has changed"
		what = "its e-mail address was changed to " + oneLine(c.Account.Email) + ". No more messages about it come here"
	case credential.AppPasswordMade:
		kind, subject, what = AppPasswordMade, "An app password was made", fmt.Sprintf("an app password was made, with the name %q", oneLine(c.AppPassword))
	}
	return Mail{
		Kind: kind, To: to, DID: c.Account.DID, Handle: c.Account.Handle, Subject: s.subject(subject),
		Text: fmt.Sprintf("Your account %s, on %s%s:\n\n    %s.\n\nIf that was not you, reset your password at once, and ask the administrator of the server for help.\n",
			c.Account.Handle, c.At.UTC().Format(mailTime), fromAddress(ctx), what),
	}
}

// factorMail is the message that tells of a change of factors. What nobody is told of has no text.
func (s *Service) factorMail(ctx context.Context, c credential.FactorChange) Mail {
	text := factorTexts[c.Event]
	if text == "" {
		return Mail{}
	}
	what := factorNames[c.Factor.Kind]
	if c.Factor.Name != "" && c.Factor.Kind != credential.RecoveryCodes && c.Factor.Kind != credential.EmailCodes {
		what += fmt.Sprintf(" (%q)", c.Factor.Name)
	}
	return Mail{
		Kind: FactorChanged, To: c.Account.Email, DID: c.Account.DID, Handle: c.Account.Handle, Subject: s.subject("The security of your account has changed"),
		Text: fmt.Sprintf("Your account %s, on %s%s:\n\n    %s\n\nIf that was not you, change your password, and ask the administrator of the server for help.\n",
			c.Account.Handle, c.At.UTC().Format(mailTime), fromAddress(ctx), strings.NewReplacer("{what}", what, "{left}", fmt.Sprint(c.Factor.Left)).Replace(text)),
	}
}

// tokenTexts are the messages with tokens: %[1]s is the token, %[2]s the handle.
var tokenTexts = map[credential.Purpose]struct{ subject, text string }{
	credential.ForEmailConfirmation: {"Confirm your e-mail address",
		"To confirm this address for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n"},
	credential.ForEmailChange: {"Change your e-mail address",
		"To change the e-mail address of your account %[2]s, or what it is used for, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n"},
	credential.ForPasswordReset: {"Reset your password",
		"To set another password for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, do nothing.\n"},
	credential.ForDeletion: {"Account deletion requested",
		"To delete your account %[2]s for good, enter this token:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, change your password.\n"},
	credential.ForPLCOperation: {"Change of your identity requested",
		"Somebody, probably you, wants to change the identity (DID) of your account %[2]s, as when you move it to another server. To allow it, enter this token:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, change your password.\n"},
	credential.ForSignIn: {"Your sign-in code",
		"To sign in to your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes. Somebody has just entered your password. If that was not you, change it.\n"},
}

var factorTexts = map[credential.FactorEvent]string{
	credential.FactorAdded:   "was added: {what}",
	credential.FactorRemoved: "was removed: {what}",
	credential.FactorReset:   "an administrator has removed all second factors and passkeys",
	credential.RecoveryUsed:  "a recovery code was used to sign in; {left} are left",
	credential.CounterBack:   "was used to sign in, but may have been copied: {what}",
}

var factorNames = map[credential.FactorKind]string{
	credential.AuthenticatorApp: "authenticator app",
	credential.EmailCodes:       "codes sent by e-mail",
	credential.RecoveryCodes:    "a set of recovery codes",
	credential.PasskeyKind:      "passkey",
}
