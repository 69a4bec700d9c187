package server

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// SendCode sends a code that is a second factor: it is for [session.Config].
func (s *Service) SendCode(ctx context.Context, a account.Account, code string) error {
	return s.send(ctx, Mail{
		Kind: SignIn, To: a.Email, DID: a.DID, Handle: a.Handle, Token: code, Subject: s.subject("Your sign-in code"),
		Text: fmt.Sprintf("To sign in to your account %s, enter this code:\n\n    %s\n\n"+
			"It is good for 15 minutes. Somebody has just entered your password. If that was not you, change it.\n", a.Handle, code),
	})
}

// FactorChanged tells the owner of an account by mail what has happened to a second factor or passkey,
// and the network address that did it, besides whatever goes on: it is for [credential.Config]. Without a Mailer, and to accounts without
// an address, it sends nothing.
func (s *Service) FactorChanged(ctx context.Context, c credential.FactorChange) {
	text := factorTexts[c.Event]
	if s.cfg.Mailer == nil || c.Account.Email == "" || text == "" {
		return
	}
	what := factorNames[c.Factor.Kind]
	if c.Factor.Name != "" && c.Factor.Kind != credential.RecoveryCodes && c.Factor.Kind != credential.EmailCodes {
		what += fmt.Sprintf(" (%q)", c.Factor.Name)
	}
	from := ""
	if network := limit.ClientOf(ctx).Network; network.IsValid() {
		from = ", from the network address " + network.Addr().String()
	}
	m := Mail{
		Kind: FactorChanged, To: c.Account.Email, DID: c.Account.DID, Handle: c.Account.Handle, Subject: s.subject("The security of your account has changed"),
		Text: fmt.Sprintf("Your account %s, on %s%s:\n\n    %s\n\nIf that was not you, change your password, and ask the administrator of the server for help.\n",
			c.Account.Handle, c.At.UTC().Format("2 January 2006 at 15:04 UTC"), from, strings.NewReplacer("{what}", what, "{left}", fmt.Sprint(c.Factor.Left)).Replace(text)),
	}
	s.tell(m)
}

// SignedIn tells the owner of an account by mail that somebody has signed in with a browser that is
// new, and what that says of itself and where it was, besides whatever goes on. Without a Mailer, and
// to accounts without an address, it sends nothing.
func (s *Service) SignedIn(_ context.Context, a account.Account, at time.Time, agent, address string) {
	if s.cfg.Mailer == nil || a.Email == "" {
		return
	}
	var where strings.Builder
	for _, part := range [][2]string{{"browser", agent}, {"address", address}} {
		if text := oneLine(part[1]); text != "" {
			fmt.Fprintf(&where, "    %s: %s\n", part[0], text)
		}
	}
	s.tell(Mail{
		Kind: NewSignIn, To: a.Email, DID: a.DID, Handle: a.Handle, Subject: s.subject("A new sign-in to your account"),
		Text: fmt.Sprintf("Somebody has signed in to your account %s in a browser that is new to it, on %s:\n\n%s\n"+
			"If that was not you, change your password: that ends all sessions.\n", a.Handle, at.UTC().Format("2 January 2006 at 15:04 UTC"), where.String()),
	})
}

// maxLine is the length in characters of the longest text of a stranger in a message.
const maxLine = 200

// oneLine is a text of a stranger, for one line of a message: it can begin no other.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if list := []rune(text); len(list) > maxLine {
		text = string(list[:maxLine]) + "…"
	}
	return strings.TrimSpace(text)
}

// tell sends a message besides whatever goes on.
func (s *Service) tell(m Mail) {
	if !s.post.do(func(ctx context.Context) { _ = s.send(ctx, m) }) { // which logs the failure
		s.log.Error("no room for a message", "kind", m.Kind, "did", m.DID)
	}
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
