package dpop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

func TestNormalURLOfEscapes(t *testing.T) {
	const host = "https://pds.example.com/"
	for in, want := range map[string]string{
		"%61%7a%41%5A%30%39": "azAZ09", "%60%7b%40%5b%2f%3A": "%60%7B%40%5B%2F%3A", "%2d%2E%5f%7e": "-._~",
		"%ff%Ff%fF%aA%Af": "%FF%FF%FF%AA%AF", "x%41": "xA", "%00": "%00",
		"a/%2e%2E/b": "b", "a/%2e/b": "a/b", "": "", "../b": "b", "a/b/..": "a/", "a/.": "a/", "/x/..": "/", "a//./b": "a//b", "...": "...",
	} {
		if got, err := normalURL(host + in); err != nil || got != host+want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"https://a.example": "https://a.example/", "http://a.example:80": "http://a.example/", "https://a.example:443/": "https://a.example/",
		"http://a.example:443/": "http://a.example:443/", "https://a.example:80/": "https://a.example:80/",
		"http://[::1]:80/x": "http://[::1]/x", "https://[::A]": "https://[::a]/", "https://[::1]:8443/": "https://[::1]:8443/",
	} {
		if got, err := normalURL(in); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"%zz": "/%zz", "/%": "/%", "/%4": "/%4", "/%+1": "/%+1", "/%4g%41": "/%4gA", "/%/0": "/%/0"} {
		if got := normalPath(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
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

// What is no proof is refused as that, and not sent for a nonce.
func TestWhatIsNoProofNeedsNoNonce(t *testing.T) {
	c := newClock()
	key := newKey(t, crypto.P256)
	good := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": publicJWK(key)}
	claims := map[string]any{"jti": "a", "htm": "POST", "htu": target.URL, "iat": c.now().Unix(), "ath": TokenHash("token")}
	for name, head := range map[string]map[string]any{
		"no typ": {"typ": nil}, "no alg": {"alg": nil}, "crit": {"crit": []string{"x"}}, "no jwk": {"jwk": nil}, "a jwk that is text": {"jwk": "x"},
		"a private jwk": {"jwk": with(publicJWK(key), "d", "AA")}, "a jwk of another curve": {"jwk": with(publicJWK(key), "crv", "P-384")},
		"alg of another key": {"alg": "ES256K"}, "a jwk with a number for a text": {"jwk": with(publicJWK(key), "alg", 5)},
	} {
		h := map[string]any{}
		change(h, good)
		change(h, head)
		if _, err := newVerifier(c).Verify(t.Context(), forge(t, key, h, claims), target); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrNonce) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newVerifier(c).Verify(t.Context(), forge(t, key, good, claims), target); !errors.Is(err, ErrNonce) {
		t.Errorf("a good one: %v", err)
	}
	// A claim of another type is one that nobody reads, and still no proof.
	change(claims, map[string]any{"nonce": 7})
	if _, err := (&Verifier{Replays: &Memory{}, Now: c.now}).Verify(t.Context(), forge(t, key, good, claims), target); !errors.Is(err, ErrInvalid) {
		t.Errorf("a nonce that is a number: %v", err)
	}
	if nonce := (&Verifier{Replays: &Memory{}}).Nonce(); nonce != "" {
		t.Errorf("a server without nonces gives %q", nonce)
	}
}

// The header of a proof has the members that it must, and no others.
func TestHeaderOfAProof(t *testing.T) {
	key := newKey(t, crypto.K256)
	text, err := Sign(t.Context(), key, target, "n", newClock().now())
	if err != nil {
		t.Fatal(err)
	}
	one, _, _ := strings.Cut(text, ".")
	got, err := b64.DecodeString(one)
	k := key.PublicKey().JWK()
	if want := `{"alg":"ES256K","jwk":{"kty":"EC","crv":"secp256k1","x":"` + k.X + `","y":"` + k.Y + `"},"typ":"dpop+jwt"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// A proof is as old, and as far ahead, as it may be to the second.
func TestProofsAtTheBoundsOfTime(t *testing.T) {
	key := newKey(t, crypto.P256)
	start := time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC)
	for after, ok := range map[time.Duration]bool{defaultAge: true, defaultAge + 1: false, -defaultAge: true, -defaultAge - 1: false} {
		text, err := Sign(t.Context(), key, target, "", start)
		if err != nil {
			t.Fatal(err)
		}
		v := &Verifier{Replays: &Memory{}, Now: func() time.Time { return start.Add(after) }}
		if _, err := v.Verify(t.Context(), text, target); (err == nil) != ok {
			t.Errorf("%v later: %v", after, err)
		}
	}
	now := start
	nonces := NewNonces(secret, func() time.Time { return now })
	nonce := nonces.Next(time.Time{})
	for after, ok := range map[time.Duration]bool{nonceLife - 1: true, nonceLife: false, -nonceAhead: true, -nonceAhead - 1: false} {
		now = start.Add(after)
		if at, got := nonces.Made(nonce); got != ok || !at.Equal(start) {
			t.Errorf("a nonce %v later: %v, %v", after, at, got)
		}
	}
}

// recorder writes down the uses of proofs.
type recorder struct{ uses []Use }

func (r *recorder) Use(_ context.Context, u Use, _ time.Time) error {
	r.uses = append(r.uses, u)
	return nil
}

// A use is remembered until its proof is too old, or its nonce is, whichever comes first.
func TestHowLongUsesAreRemembered(t *testing.T) {
	c := newClock()
	key := newKey(t, crypto.P256)
	nonces := NewNonces(secret, c.now)
	nonce := nonces.Next(time.Time{})
	made, _ := nonces.Made(nonce)
	var r recorder
	with := target
	with.Account = "did:web:a.example"
	for _, v := range []*Verifier{
		{Replays: &r, Now: c.now},
		{Replays: &r, Now: c.now, Nonces: nonces},
		{Replays: &r, Now: c.now, Nonces: nonces, MaxAge: time.Minute},
	} {
		text, err := Sign(t.Context(), key, with, nonce, c.now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), text, with); err != nil {
			t.Fatal(err)
		}
	}
	issued := time.Unix(c.now().Unix(), 0)
	for i, want := range []time.Time{issued.Add(defaultAge + time.Second), made.Add(nonceLife), issued.Add(time.Minute + time.Second)} {
		if u := r.uses[i]; !u.Expires.Equal(want) || u.Account != with.Account || u.Thumbprint != Thumbprint(key.PublicKey()) || u.ID == "" {
			t.Errorf("%d: %+v, want until %v", i, u, want)
		}
	}
}

// A use is remembered up to its last moment, and forgotten after it, also where the clock of the store is
// behind. A name of a proof counts for its own key alone.
func TestUsesAtTheirEnd(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	end := now.Add(time.Minute)
	kv := memory.New(memory.Config{Now: func() time.Time { return now.Add(-time.Hour) }}).KV
	for name, replays := range map[string]Replays{"memory": &Memory{}, "stored": &Stored{KV: kv, Prefix: "proof/"}} {
		use := func(key, id string, until, at time.Time) error {
			return replays.Use(t.Context(), Use{Thumbprint: key, ID: id, Expires: until}, at)
		}
		for _, u := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"x", "bc"}, {"a", "x"}} {
			if err := use(u[0], u[1], end, now); err != nil {
				t.Errorf("%s: %v: %v", name, u, err)
			}
		}
		// At the end, the first of these calls sweeps the memory.
		if err := use("y", "y", end, end); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := use("a", "bc", end, end); !errors.Is(err, ErrReplayed) {
			t.Errorf("%s: at its end: %v", name, err)
		}
		after := end.Add(time.Millisecond)
		if err := use("a", "bc", after.Add(time.Minute), after); err != nil {
			t.Errorf("%s: after its end: %v", name, err)
		}
		if err := use("a", "bc", after.Add(time.Minute), after); !errors.Is(err, ErrReplayed) {
			t.Errorf("%s: once more after its end: %v", name, err)
		}
	}
}

// unread is a store that cannot be read, and would take all that is written.
type unread struct{ storage.KV }
type unreadTx struct{ storage.KVTx }

var errUnread = errors.New("unread")

func (unread) Write(_ context.Context, fn func(storage.KVTx) error) error { return fn(unreadTx{}) }
func (unreadTx) Get(context.Context, string) ([]byte, error)              { return nil, errUnread }
func (unreadTx) Set(context.Context, string, []byte, time.Time) error     { return nil }

// While it is unknown whether a proof was used, it is not taken.
func TestProofsWhoseUseIsUnknown(t *testing.T) {
	if err := (&Stored{KV: unread{}}).Use(t.Context(), Use{ID: "a"}, time.Now()); !errors.Is(err, errUnread) {
		t.Error(err)
	}
}
