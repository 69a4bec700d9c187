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

// SendCode mails a code that is a second factor. Use it in [session.Config]. With Notices it does
// nothing, since they send the code.
func (s *Service) SendCode(ctx context.Context, a account.Account, code string) error {
	return s.sendToken(ctx, a, credential.ForSignIn, code)
}

// SignedIn notifies the owner of an account by mail of a sign-in with a new browser: agent and
// address are those of the browser. The mail is sent in the background. Without a Mailer, or for an
// account without an address, nothing is sent.
func (s *Service) SignedIn(ctx context.Context, a account.Account, at time.Time, agent, address string) {
	if s.cfg.Mailer == nil || a.Email == "" {
		return
	}
	s.notify(ctx, a, Mail{
		Kind: NewSignIn, To: a.Email, DID: a.DID, Handle: a.Handle, Subject: s.subject("A new sign-in to your account"),
		Text: fmt.Sprintf("Somebody has signed in to your account %s in a browser that is new to it, on %s:\n\n%s\n"+
			"If that was not you, change your password: that ends all sessions.\n", a.Handle, at.UTC().Format(mailTime), where(agent, address)),
	})
}

// AllowedApp is an app that got permissions.
type AllowedApp struct {
	// Name is the app's name for users, and ID its client_id.
	Name, ID string
	// May are its new permissions in words.
	May []string
	At  time.Time
	// Agent and Address are those of the browser in which it was allowed.
	Agent, Address string
}

// AppAllowed notifies the owner of an account by mail that an app got permissions that it did not
// have. The mail is sent in the background. Without a Mailer, or for an account without an address,
// nothing is sent.
func (s *Service) AppAllowed(ctx context.Context, a account.Account, app AllowedApp) {
	if s.cfg.Mailer == nil || a.Email == "" {
		return
	}
	if len(app.May) == 0 {
		app.May = []string{"Know who you are"}
	}
	var may strings.Builder
	for i, text := range app.May {
		if i == maxPermissions {
			fmt.Fprintf(&may, "    - and %d more\n", len(app.May)-i)
			break
		}
		fmt.Fprintf(&may, "    - %s\n", oneLine(text))
	}
	s.notify(ctx, a, Mail{
		Kind: NewApp, To: a.Email, DID: a.DID, Handle: a.Handle, Subject: s.subject("An app has new permissions for your account"),
		Text: fmt.Sprintf("Somebody has given an app permissions for your account %s, on %s:\n\n    app: %s\n    its address: %s\n%s\nWhat it may do now:\n\n%s\n"+
			"If that was not you, change your password: that ends all sessions, those of apps too.\n",
			a.Handle, app.At.UTC().Format(mailTime), oneLine(app.Name), oneLine(app.ID), where(app.Agent, app.Address), may.String()),
	})
}

// fromAddress says from which network address a change comes, for a message; empty if that is not
// known.
func fromAddress(ctx context.Context) string {
	if network := limit.ClientOf(ctx).Network; network.IsValid() {
		return ", from the network address " + network.Addr().String()
	}
	return ""
}

// maxPermissions is how many permissions a message lists.
const maxPermissions = 30

// mailTime is how messages say when something was.
const mailTime = "2 January 2006 at 15:04 UTC"

// where is what is known of a browser, in lines of a message.
func where(agent, address string) string {
	var b strings.Builder
	for _, part := range [][2]string{{"browser", agent}, {"address", address}} {
		if text := oneLine(part[1]); text != "" {
			fmt.Fprintf(&b, "    %s: %s\n", part[0], text)
		}
	}
	return b.String()
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
