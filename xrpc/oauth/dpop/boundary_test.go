package dpop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
)

func TestNormalURLOfEscapes(t *testing.T) {
	const host = "https://pds.example.com/"
	for in, want := range map[string]string{
		"%61%7a%41%5A%30%39": "azAZ09", "%60%7b%40%5b%2f%3A": "%60%7B%40%5B%2F%3A", "%2d%2E%5f%7e": "-._~",
		"%ff%Ff%fF%aA%Af": "%FF%FF%FF%AA%AF", "x%41": "xA", "%00": "%00",
		"a/%2e%2E/b": "b", "a/%2e/b": "a/b",
	} {
		if got, err := normalURL(host + in); err != nil || got != host+want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	long := host + strings.Repeat("a", maxURL-len(host))
	if _, err := normalURL(long); err != nil {
		t.Errorf("the longest address: %v", err)
	}
	if _, err := normalURL(long + "a"); err == nil {
		t.Error("an address that is too long")
	}
	for _, in := range []string{"", "pds.example.com", "ftp://pds.example.com/", "https:///x", "https:x", "https://a@pds.example.com/", "https://pds.example.com/%zz"} {
		if got, err := normalURL(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// Each part of a proof is looked at: what is one byte or one kind off is refused, and what is just inside
// is taken.
func TestProofsAtTheBounds(t *testing.T) {
	c := newClock()
	key := newKey(t, crypto.P256)
	now := c.now().Unix()
	good := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": publicJWK(key)}
	claims := map[string]any{"jti": "a", "htm": "POST", "htu": target.URL, "iat": now}
	plain := target
	plain.Token = ""
	for name, x := range map[string]struct {
		header, claims map[string]any
		ok             bool
	}{
		"as it should be":       {nil, nil, true},
		"the longest jti":       {nil, map[string]any{"jti": strings.Repeat("a", maxID)}, true},
		"a longer jti":          {nil, map[string]any{"jti": strings.Repeat("a", maxID+1)}, false},
		"no jti":                {nil, map[string]any{"jti": ""}, false},
		"alg of another key":    {map[string]any{"alg": "ES256K"}, nil, false},
		"no jwk":                {map[string]any{"jwk": nil}, nil, false},
		"a jwk that is no key":  {map[string]any{"jwk": map[string]any{"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}}, nil, false},
		"another typ":           {map[string]any{"typ": "jwt"}, nil, false},
		"no alg":                {map[string]any{"alg": "none"}, nil, false},
		"an address too long":   {nil, map[string]any{"htu": target.URL + strings.Repeat("x", maxURL)}, false},
		"another address":       {nil, map[string]any{"htu": "https://pds.example.com/xrpc/com.example.other"}, false},
		"no address":            {nil, map[string]any{"htu": "x"}, false},
		"a time that is none":   {nil, map[string]any{"iat": 1e300}, false},
		"a time before all":     {nil, map[string]any{"iat": -1e300}, false},
		"an hour ago":           {nil, map[string]any{"iat": now - 3600}, false},
		"in an hour":            {nil, map[string]any{"iat": now + 3600}, false},
		"no time":               {nil, map[string]any{"iat": nil}, false},
		"a proof that is large": {map[string]any{"x": strings.Repeat("x", maxProof)}, nil, false},
	} {
		h, p := map[string]any{}, map[string]any{}
		change(h, good)
		change(h, x.header)
		change(p, claims)
		change(p, x.claims)
		v := &Verifier{Replays: &Memory{}, Now: c.now}
		got, err := v.Verify(t.Context(), forge(t, key, h, p), plain)
		if (err == nil) != x.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (got.Key != nil || got.ID != "") {
			t.Errorf("%s: an error, and a proof %+v", name, got)
		}
	}
	v := &Verifier{Replays: &Memory{}, Now: c.now}
	nowhere := plain
	nowhere.URL = "x"
	if _, err := v.Verify(t.Context(), forge(t, key, good, claims), nowhere); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("a request without an address, which is no fault of the proof: %v", err)
	}
}

// Without nonces, a proof counts once for as long as its age allows.
func TestReplayWithoutNonces(t *testing.T) {
	c := newClock()
	v, key := &Verifier{Replays: &Memory{}, Now: c.now}, newKey(t, crypto.K256)
	text, err := Sign(t.Context(), key, target, "", c.now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), text, target); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err := v.Verify(t.Context(), text, target); !errors.Is(err, ErrReplayed) {
			t.Errorf("once more: %v", err)
		}
		c.add(defaultAge / 4)
	}
	c.add(2 * time.Second)
	if _, err := v.Verify(t.Context(), text, target); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrReplayed) {
		t.Errorf("when it is too old: %v", err)
	}
}

var errLocked = errors.New("locked")

// locked is a key that cannot be used at present.
type locked struct{ *crypto.PrivateKey }

func (locked) Sign(context.Context, []byte) ([]byte, error) { return nil, errLocked }

func TestKeysThatDoNotSign(t *testing.T) {
	if text, err := Sign(t.Context(), locked{newKey(t, crypto.P256)}, target, "", newClock().now()); !errors.Is(err, errLocked) || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}
