package credential

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
)

// A token that was sent by mail is good for 15 minutes to the last moment, and by a clock that is up
// to a minute behind the one that made it.
func TestMailTokensAtTheirBounds(t *testing.T) {
	for _, c := range []struct {
		later time.Duration
		want  error
	}{{15 * time.Minute, nil}, {15*time.Minute + 1, ErrMailTokenExpired}, {-time.Minute, nil}, {-time.Minute - 1, ErrMailTokenExpired}} {
		s, now := newStore(t)
		token, _, err := s.NewMailToken(t.Context(), account.Trusted(owner), ForDeletion)
		if err != nil {
			t.Fatal(err)
		}
		*now = now.Add(c.later)
		if err := s.CheckMailToken(t.Context(), account.Trusted(owner), ForDeletion, token); !errors.Is(err, c.want) {
			t.Errorf("%v later: %v, want %v", c.later, err, c.want)
		}
	}
}

// A stranger has a token to reset a password sent once a minute. The one before stays good until
// then.
func TestResetTokensOfStrangers(t *testing.T) {
	s, now := newStore(t)
	ask := func() string {
		t.Helper()
		token, a, err := s.NewResetToken(t.Context(), owner)
		if err != nil || a.Email != "alice@example.com" {
			t.Fatalf("to %q: %v", a.Email, err)
		}
		return token
	}
	good := func(token string, want error) {
		t.Helper()
		if err := s.CheckMailToken(t.Context(), account.Trusted(owner), ForPasswordReset, token); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	first := ask()
	good(first, nil)
	*now = now.Add(time.Minute - 1)
	if again := ask(); again != "" {
		t.Errorf("another one, %q, within a minute", again)
	}
	good(first, nil)
	*now = now.Add(1)
	second := ask()
	good(second, nil)
	good(first, ErrMailToken)
	// A token that a clock made which was ahead bars none.
	*now = now.Add(-time.Hour)
	third := ask()
	good(third, nil)
	// Nor does one to another address.
	if err := s.ChangeEmail(t.Context(), account.Trusted(owner), "other@example.com", ""); err != nil {
		t.Fatal(err)
	}
	if token, a, err := s.NewResetToken(t.Context(), owner); token == "" || a.Email != "other@example.com" || err != nil {
		t.Errorf("%q to %q: %v", token, a.Email, err)
	}
}

// People type tokens as they like.
func TestTokensAsTheyAreTyped(t *testing.T) {
	s, _ := newStore(t)
	token, _, err := s.NewMailToken(t.Context(), account.Trusted(owner), ForDeletion)
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.ReplaceAll(token, "-", "")
	for text, want := range map[string]error{
		token: nil, bare: nil, strings.ToLower(token): nil, " " + token + "\n": nil, bare[:5] + " – " + bare[5:]: nil, bare[:5] + "\u2212" + bare[5:]: nil,
		bare[:2] + "\u00ad" + bare[2:]: nil, token + strings.Repeat(" ", 100-len(token)): nil,
		token + strings.Repeat(" ", 101-len(token)): ErrMailToken, bare[:9]: ErrMailToken, bare + "A": ErrMailToken, "": ErrMailToken, bare[:5]: ErrMailToken,
		bare[:4] + "_" + bare[4:]: ErrMailToken,
	} {
		if err := s.CheckMailToken(t.Context(), account.Trusted(owner), ForDeletion, text); !errors.Is(err, want) {
			t.Errorf("%q for %q: %v, want %v", text, token, err, want)
		}
	}
}

// Codes are told apart by their lengths.
func TestKindsOfCodes(t *testing.T) {
	for text, want := range map[string]struct {
		kind FactorKind
		code string
	}{
		"123456":                    {AuthenticatorApp, "123456"},
		" 123 456 ":                 {AuthenticatorApp, "123456"},
		"090909":                    {AuthenticatorApp, "090909"},
		"12345a":                    {},
		"12345":                     {},
		"1234567":                   {},
		"abcde-fghiz":               {EmailCodes, "ABCDEFGHIZ"},
		"1234567890":                {EmailCodes, "1234567890"},
		"abcd–efgh-AZ09-mnop":       {RecoveryCodes, "ABCDEFGHAZ09MNOP"},
		"abcde.fghij":               {},
		"abcdé-fghij":               {},
		"abcde[fghi":                {},
		"abcde`fghi":                {},
		"abcde{fghi":                {},
		"abcde@fghi":                {},
		"abcde/fghi":                {},
		"abcde:fghi":                {},
		"":                          {},
		"123456" + spaces(94):       {AuthenticatorApp, "123456"},
		"123456" + spaces(95):       {},
		"123456" + "\u200b\u2212\t": {AuthenticatorApp, "123456"},
	} {
		if kind, code := readCode(text); kind != want.kind || code != want.code {
			t.Errorf("%q is %q of kind %q", text, code, kind)
		}
	}
}

func spaces(n int) string { return strings.Repeat(" ", n) }

// A stored hash that is none is an error, not a wrong password.
func TestStoredHashesThatAreNone(t *testing.T) {
	s, _ := newStore(t)
	good, err := s.HashPassword(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"correct horse": true, "correct horse ": false, "": false} {
		if ok, err := s.checkPassword(t.Context(), good, password); ok != want || err != nil {
			t.Errorf("%q: %v, %v", password, ok, err)
		}
	}
	if !strings.HasPrefix(good, "$argon2id$v=19$m=") { // other programs read it
		t.Error(good)
	}
	parts := strings.Split(good, "$")
	with := func(i int, part string) string {
		p := append([]string{}, parts...)
		p[i] = part
		return strings.Join(p, "$")
	}
	for name, hash := range map[string]string{
		"empty": "", "a word": "secret", "another algorithm": with(1, "argon2i"), "a part too many": good + "$", "a part less": strings.Join(parts[:5], "$"),
		"no cost": with(3, ""), "a salt that is no base64": with(4, "!"), "a key that is no base64": with(5, "!"), "too many threads": with(3, "m=8,t=1,p=256"),
	} {
		if ok, err := s.checkPassword(t.Context(), hash, "correct horse"); ok || !errors.Is(err, errBadHash) {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

// While there is no place to hash a password, none is set, and none is right or wrong.
func TestPasswordsWithoutAPlace(t *testing.T) {
	s, _ := newStore(t)
	ctx, who := t.Context(), account.Trusted(owner)
	a, err := s.SetPassword(ctx, who, "first")
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.NewResetToken(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	errBusy := errors.New("busy")
	enter := s.enter
	s.enter = func(context.Context) (func(), error) { return nil, errBusy }
	for name, do := range map[string]func() error{
		"HashPassword": func() error { _, err := s.HashPassword(ctx, "x"); return err },
		"SetPassword":  func() error { _, err := s.SetPassword(ctx, who, "x"); return err },
		"ChangePassword": func() error {
			_, err := s.ChangePassword(ctx, who, "x", account.Kept{})
			return err
		},
		"ResetPassword":            func() error { return s.ResetPassword(ctx, token, "x") },
		"CheckPassword":            func() error { _, err := s.CheckPassword(ctx, a, "first", false); return err },
		"CheckPassword of nobody":  func() error { _, err := s.CheckPassword(ctx, account.Account{}, "x", true); return err },
		"CheckPassword of no hash": func() error { _, err := s.CheckPassword(ctx, account.Account{DID: owner}, "", false); return err },
	} {
		if err := do(); !errors.Is(err, errBusy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.enter = enter
	now, err := s.accounts.ByDID(ctx, owner)
	if err != nil || now.Password != a.Password || now.Credentials != a.Credentials {
		t.Errorf("the password has changed: %v", err)
	}
	if _, err := s.CheckPassword(ctx, now, "first", false); err != nil {
		t.Error(err)
	}
	if err := s.ResetPassword(ctx, token, "second"); err != nil {
		t.Errorf("the token was used up: %v", err)
	}
}

// A used refresh token is good for two hours to the last moment, a session for 90 days, and of the
// used tokens the last 200 are known.
func TestSessionsAtTheirBounds(t *testing.T) {
	s, now := newStore(t)
	x := login(t, s, nil)
	next, err := rotate(t, s, x.ID)
	if err != nil {
		t.Fatal(err)
	}
	*now = now.Add(refreshGrace - 1)
	if again, err := rotate(t, s, x.ID); err != nil || again.ID != next.ID {
		t.Errorf("%+v, %v", again, err)
	}
	// It was renewed at the beginning, so that is when its 90 days began.
	*now = now.Add(RefreshLife - refreshGrace)
	if next, err = rotate(t, s, next.ID); err != nil {
		t.Errorf("in its last moment: %v", err)
	}
	first := next.ID
	for range maxUsed {
		if next, err = rotate(t, s, next.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rotate(t, s, first); err != nil {
		t.Errorf("the first of as many tokens as are known: %v", err)
	}
}

// Where a session comes from is kept in up to 128 bytes, of whole characters.
func TestWhereSessionsComeFrom(t *testing.T) {
	s, _ := newStore(t)
	for text, want := range map[string]string{
		"":                             "",
		strings.Repeat("x", 128):       strings.Repeat("x", 128),
		strings.Repeat("x", 129):       strings.Repeat("x", 128),
		strings.Repeat("x", 127) + "é": strings.Repeat("x", 127),
	} {
		s.from = func(context.Context) string { return text }
		x := login(t, s, nil)
		list, err := s.Sessions(t.Context(), account.Trusted(owner))
		if err != nil || len(list) != 1 || list[0].From != want {
			t.Errorf("from %q: %+v, %v", text, list, err)
		}
		if err := s.EndSession(t.Context(), owner, x.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// Names of factors have up to 64 characters, however many bytes those are.
func TestNamesOfFactors(t *testing.T) {
	for name, want := range map[string]string{
		"": "otherwise", "  ": "otherwise", " phone ": "phone", strings.Repeat("é", maxFactorName): strings.Repeat("é", maxFactorName),
	} {
		if got, err := factorName(name, "otherwise"); got != want || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{strings.Repeat("é", maxFactorName+1), "a\x00", "\xff"} {
		if got, err := factorName(name, "otherwise"); got != "" || !errors.Is(err, ErrFactorName) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

// App passwords have names of their own, and both they and sessions are counted.
func TestCountsOfAnAccount(t *testing.T) {
	s, _ := newStore(t)
	ctx, who := t.Context(), account.Trusted(owner)
	want := func(sessions, apps int) {
		t.Helper()
		if gotSessions, gotApps, err := s.Counts(ctx, owner); gotSessions != sessions || gotApps != apps || err != nil {
			t.Errorf("%d sessions, %d app passwords, %v", gotSessions, gotApps, err)
		}
	}
	want(0, 0)
	_, phone, err := s.CreateAppPassword(ctx, who, "phone", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CreateAppPassword(ctx, who, "phone", true); !errors.Is(err, ErrDuplicateName) {
		t.Errorf("the name again: %v", err)
	}
	login(t, s, nil)
	login(t, s, &phone)
	want(2, 1)
	if err := s.RevokeAppPassword(ctx, who, "phone"); err != nil {
		t.Fatal(err)
	}
	want(1, 0)
	if _, _, err := s.Counts(ctx, "did:plc:nobody"); !errors.Is(err, account.ErrNotFound) {
		t.Error(err)
	}
}
