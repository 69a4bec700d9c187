package pages

import (
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pdskit/pdskit/xrpc/auth"
)

// Whatever somebody writes as the page to return to, it is one of the account's, or none.
func FuzzOwnPath(f *testing.F) {
	for _, s := range []string{"/account", "/account/devices", "//evil.example", "/\\evil", "/account/../x", "https://evil.example", "/account?x=1#y", "/account/%2e%2e/x", "/account/\u2028"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://pds.example.com/oauth/sign-in")
	f.Fuzz(func(t *testing.T, s string) {
		out := ownPath(s)
		if out == "" {
			return
		}
		u, err := base.Parse(out)
		if err != nil || u.Scheme != "https" || u.Host != base.Host || u.Path != "/account" && !strings.HasPrefix(u.Path, "/account/") {
			t.Errorf("%q: %q leads to %v %v", s, out, u, err)
		}
		if strings.ContainsAny(out, "\\\r\n\t\"<> ") {
			t.Errorf("%q: %q", s, out)
		}
	})
}

// Every scope that can be granted is described, and says what it cannot do.
func FuzzDescribe(f *testing.F) {
	for _, s := range []string{
		"transition:generic", "transition:chat.bsky", "transition:email", "account:email?action=manage", "account:repo?action=manage", "account:status", "identity:*",
		"identity:handle", "repo:*", "repo?collection=a.b.c&collection=a.b.d&action=create", "blob:*/*", "blob?accept=image/*&accept=video/mp4", "rpc:*?aud=did:web:a.example%23s",
		"rpc:a.b.c?aud=*", "include:a.b.c.auth?aud=did:web:a.example%23s",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := auth.ParseScope(text)
		if err != nil || s.String() == auth.Atproto {
			return
		}
		l := Words{}.of(t.Context(), set.Languages()[0], s)
		if l.Text == "" || strings.Contains(l.Text, "{") && !strings.Contains(text, "{") {
			t.Errorf("%q: %+v", text, l)
		}
		if strings.HasSuffix(l.Text, ":") && len(l.Details) == 0 && !strings.HasPrefix(text, "include") {
			t.Errorf("%q: nothing after %q", text, l.Text)
		}
		cannot(set.Languages()[0], []auth.Scope{s})
	})
}

// A stranger's text stays in its line, and turns nothing around.
func FuzzTame(f *testing.F) {
	f.Add("Calendar", 100)
	f.Add("\u202egnp.exe\u2066\n\x00 \xff\ufffd a\u200db", 5)
	f.Add("नम\u200dस्ते   \u2028 x", 3)
	f.Fuzz(func(t *testing.T, text string, n int) {
		n = 1 + n&0xff
		got := tame(text, n)
		if utf8.RuneCountInString(got) > n || !utf8.ValidString(got) || tame(got, n) != got {
			t.Errorf("%q of %q, then %q", got, text, tame(got, n))
		}
		if i := strings.IndexFunc(got, func(r rune) bool {
			return unicode.IsControl(r) || r != ' ' && unicode.IsSpace(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f
		}); i >= 0 {
			t.Errorf("%q", got)
		}
	})
}
