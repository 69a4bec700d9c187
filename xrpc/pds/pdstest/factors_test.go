package pdstest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// login logs in with a code.
func login(t *testing.T, p *pdstest.PDS, a *pdstest.Account, code string) error {
	_, err := api.ServerCreateSession(t.Context(), p.Client(), api.ServerCreateSessionInput{Identifier: string(a.Handle), Password: a.Password, AuthFactorToken: code})
	return err
}

func is(t *testing.T, what string, err error, name string) {
	t.Helper()
	if name == "" && err != nil || name != "" && !errors.Is(err, &xrpc.Error{Name: name}) {
		t.Errorf("%s: %v, want %q", what, err, name)
	}
}

// 169, over a whole server: an account with an authenticator app, which outlasts a restart.
func TestMatrix169AuthenticatorApp(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	who := account.Trusted(alice.DID)
	e, err := pds.Server().Credentials.BeginApp(t.Context(), who, pds.Name)
	if err != nil {
		t.Fatal(err)
	}
	code := func() string { // of a period that no code was used of yet
		net.Clock.Advance(time.Minute)
		code, err := credential.AppCode(e.Secret, net.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if _, err := pds.Server().Credentials.ConfirmApp(t.Context(), who, "phone", code()); err != nil {
		t.Fatal(err)
	}
	mail, err := net.Mail.Take(t.Context(), alice.Email, server.FactorChanged)
	if err != nil || !strings.Contains(mail.Text, `authenticator app ("phone")`) || !strings.Contains(mail.Text, string(alice.Handle)) {
		t.Errorf("%v %s", err, mail.Text)
	}
	app, err := api.ServerCreateAppPassword(t.Context(), alice, api.ServerCreateAppPasswordInput{Name: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := pds.Server().Credentials.NewRecoveryCodes(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	is(t, "the password", login(t, pds, alice, ""), "AuthFactorTokenRequired")
	used := code()
	is(t, "the code", login(t, pds, alice, used), "")
	pds.Restart()
	is(t, "the code after a restart", login(t, pds, alice, used), "InvalidToken")
	_, err = alice.Login(app.Password)
	is(t, "an app password", err, "")
	is(t, "a recovery code", login(t, pds, alice, recovery[3]), "")
	is(t, "the recovery code again", login(t, pds, alice, recovery[3]), "InvalidToken")
	is(t, "another code", login(t, pds, alice, code()), "")

	if _, err := pds.Server().Credentials.ResetFactors(t.Context(), alice.DID, "operator"); err != nil {
		t.Fatal(err)
	}
	is(t, "after the reset", login(t, pds, alice, ""), "")
	for {
		mail, err := net.Mail.Take(t.Context(), alice.Email, server.FactorChanged)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(mail.Text, "an administrator has removed all second factors") {
			break
		}
	}
	problems, err := pds.Server().Accounts.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// Codes sent by mail are turned on and off by updateEmail.
func TestEmailFactor(t *testing.T) {
	net := pdstest.New(t)
	pds := net.PDS()
	alice := pds.Account("alice")
	ctx := t.Context()
	set := func(email string, on bool, token string) error {
		return api.ServerUpdateEmail(ctx, alice, api.ServerUpdateEmailInput{Email: email, EmailAuthFactor: &on, Token: token})
	}
	token := func(kind server.MailKind) string {
		t.Helper()
		mail, err := net.Mail.Take(ctx, alice.Email, kind)
		if err != nil {
			t.Fatal(err)
		}
		return mail.Token
	}
	is(t, "an address that is not confirmed", set(alice.Email, true, ""), "InvalidRequest")
	if err := api.ServerRequestEmailConfirmation(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if err := api.ServerConfirmEmail(ctx, alice, api.ServerConfirmEmailInput{Email: alice.Email, Token: token(server.ConfirmEmail)}); err != nil {
		t.Fatal(err)
	}
	is(t, "another address", set("other@example.com", true, ""), "InvalidRequest")
	is(t, "the address", set(alice.Email, true, ""), "")
	out, err := api.ServerGetSession(ctx, alice)
	if err != nil || out.EmailAuthFactor == nil || !*out.EmailAuthFactor || !*out.EmailConfirmed {
		t.Errorf("%+v %v", out, err)
	}
	is(t, "the password", login(t, pds, alice, ""), "AuthFactorTokenRequired")
	is(t, "a wrong code", login(t, pds, alice, "AAAAA-BBBBB"), "InvalidToken")
	code := token(server.SignIn)
	is(t, "the code", login(t, pds, alice, strings.ToLower(code)), "")
	is(t, "the code again", login(t, pds, alice, code), "InvalidToken")

	is(t, "off without a token", set(alice.Email, false, ""), "TokenRequired")
	is(t, "off with a wrong token", set(alice.Email, false, "AAAAA-BBBBB"), "InvalidToken")
	if _, err := api.ServerRequestEmailUpdate(ctx, alice); err != nil {
		t.Fatal(err)
	}
	is(t, "off with the token", set(alice.Email, false, token(server.UpdateEmail)), "")
	is(t, "the password alone", login(t, pds, alice, ""), "")
}
