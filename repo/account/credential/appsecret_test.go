package credential

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Secrets are stored sealed, for their own account and key, and are sealed anew with the others.
func TestAppSecretIsSealed(t *testing.T) {
	v := newVault(t)
	ctx, who := t.Context(), account.Trusted(owner)
	secret := v.app()
	raw, err := base32Secret.DecodeString(secret)
	v.ok(err)
	v.ok(v.accounts.View(ctx, who, func(_ account.Account, r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, storage.Range{}) {
			v.ok(err)
			if strings.Contains(string(pair.Value), string(raw)) || strings.Contains(string(pair.Value), secret) {
				t.Errorf("%s has the secret", pair.Key)
			}
		}
		doc, err := r.Get(ctx, secretKey)
		v.ok(err)
		if _, err := v.accounts.Unseal(owner, enrolKey, doc); err == nil {
			t.Error("the secret can be moved to another key")
		}
		if _, err := v.accounts.Unseal("did:plc:other", secretKey, doc); err == nil {
			t.Error("the secret can be moved to another account")
		}
		return nil
	}))
}

func FuzzReadCode(f *testing.F) {
	for _, s := range []string{"123456", "123 456", "abcde-fghij", "ABCD-EFGH-IJKL-MNOP", "–1–", "\x00", strings.Repeat("1", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kind, code := readCode(s)
		if kind == "" {
			if code != "" {
				t.Errorf("%q is of no kind, but %q", s, code)
			}
			return
		}
		if again, same := readCode(code); again != kind || same != code {
			t.Errorf("%q: %s %q, then %s %q", s, kind, code, again, same)
		}
		if want := map[FactorKind]int{AuthenticatorApp: 6, EmailCodes: 10, RecoveryCodes: 16}[kind]; len(code) != want {
			t.Errorf("%q: %d characters of %s", s, len(code), kind)
		}
	})
}

// The secret is sealed anew with the signing keys when the master key changes.
func TestAppSecretIsSealedAnew(t *testing.T) {
	store := memory.New(memory.Config{})
	clock := time.Now()
	with := func(keys ...[]byte) *vault {
		box, err := sealed.New(keys...)
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{Accounts: account.Open(repo.Config{Store: store, TempDir: t.TempDir()}, box), Now: func() time.Time { return clock }})
		return &vault{town: &town{Store: s, t: t}, clock: clock}
	}
	older, newer := make([]byte, 32), bytes.Repeat([]byte{1}, 32)
	v := with(older)
	v.create(owner, "alice.test", "alice@example.com")
	secret := v.app()
	if _, err := v.BeginApp(t.Context(), account.Trusted(owner), "PDS"); err != nil {
		t.Fatal(err)
	}
	n, err := with(newer, older).accounts.Reseal(t.Context(), nil)
	if err != nil || n != 3 {
		t.Fatalf("%d secrets were sealed anew, %v", n, err)
	}
	v = with(newer)
	_, err = v.check(v.code(secret, 0))
	v.ok(err)
}
