package accounts

import (
	"bytes"
	"errors"
	"testing"
)

func master(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func ring(t *testing.T, keys ...[]byte) *Keyring {
	t.Helper()
	k, err := NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyring(t *testing.T) {
	old, both, fresh := ring(t, master(1)), ring(t, master(2), master(1)), ring(t, master(2))
	sealed, err := old.Seal("name", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the secret can be read")
	}
	for _, k := range []*Keyring{old, both} {
		if got, err := k.Open("name", sealed); err != nil || string(got) != "secret" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := k.Open("other", sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("under another name: %v", err)
		}
	}
	if _, err := fresh.Open("name", sealed); !errors.Is(err, ErrNoMasterKey) {
		t.Errorf("with another key: %v", err)
	}
	if !old.Current(sealed) || both.Current(sealed) || fresh.Current(nil) {
		t.Error("Current")
	}
	again, err := both.Seal("name", []byte("secret"))
	if err != nil || !both.Current(again) || !fresh.Current(again) {
		t.Errorf("%v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := old.Open("name", bad); err == nil {
			t.Errorf("byte %d was changed, and it still opens", i)
		}
		if _, err := old.Open("name", sealed[:i]); err == nil {
			t.Errorf("cut at %d, it still opens", i)
		}
	}
}

func TestNewSealerRefuses(t *testing.T) {
	for _, keys := range [][][]byte{nil, {nil}, {master(1)[:31]}, {master(1), []byte("short")}} {
		if _, err := NewSealer(keys...); err == nil {
			t.Errorf("%x: no error", keys)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, err := NewSealer(master(1))
	if err != nil {
		f.Fatal(err)
	}
	sealed, _ := k.Seal("n", []byte("s"))
	f.Add(sealed)
	f.Add([]byte{sealVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		if secret, err := k.Open("n", b); err == nil && string(secret) != "s" {
			t.Errorf("%x opens as %q", b, secret)
		}
	})
}
