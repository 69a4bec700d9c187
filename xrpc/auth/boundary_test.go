package auth

import (
	"errors"
	"strings"
	"testing"
)

func TestScopesOfTheGreatestLength(t *testing.T) {
	const one = "collection=com.example.a&"
	long := func(n int) string {
		s := "repo?" + strings.Repeat(one, (n-40)/len(one)) + "collection=com.example."
		return s + strings.Repeat("b", n-len(s))
	}
	if _, err := ParseScope(long(maxScope)); err != nil {
		t.Error(err)
	}
	if s, err := ParseScope(long(maxScope + 1)); !errors.Is(err, ErrInvalidScope) {
		t.Errorf("one byte more: %v, %v", s, err)
	}
}

// A parameter that is not known makes a scope invalid, wherever it stands: nobody knows what it would
// have limited.
func TestUnknownParameters(t *testing.T) {
	for _, in := range []string{
		"repo:com.example.a?action=create&x=y", "repo:com.example.a?x=y&action=create", "repo:com.example.a?action=create&=y",
		"repo:com.example.a?action=create&%zz=y", "repo:com.example.a?action=create&x", "account:email?action=read&x=y",
		"rpc:com.example.x?aud=*&x=y", "rpc:com.example.x?aud=*&%=y", "rpc:com.example.x?aud=*&aud=%zz", "blob:image/png?x=y",
	} {
		if s, err := ParseScope(in); !errors.Is(err, ErrInvalidScope) {
			t.Errorf("%q: %v, %v", in, s, err)
		}
	}
}

// Of the bytes, only those may stand in a scope that may in a scope token of OAuth, and of those, only the
// ones of an HTTP token in a media type.
func TestBytesOfScopes(t *testing.T) {
	const token = "!#$%&'*+-.^_`|~" + "0123456789" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	const special = "#%&+*=?" // of scopes
	for c := range 256 {
		if c != 0 && strings.IndexByte(special, byte(c)) >= 0 {
			continue
		}
		in := "blob:image/a" + string([]byte{byte(c)}) + "z"
		want := c != 0 && strings.IndexByte(token, byte(c)) >= 0
		if _, err := ParseScope(in); (err == nil) != want {
			t.Errorf("%q: %v", in, err)
		}
		// What must not stand there is refused before anything is looked up: no error quotes it raw.
		if _, err := parseScope(string([]byte{byte(c)}) + "x"); c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			if err == nil || !strings.Contains(err.Error(), "the character") {
				t.Errorf("byte %d: %v", c, err)
			}
		}
	}
	var b strings.Builder
	escape(&b, "a b\x00\x7f\xff~!", false)
	if got := b.String(); got != "a%20b%00%7F%FF~!" {
		t.Errorf("escaped: %q", got)
	}
}
