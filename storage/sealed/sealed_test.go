package sealed_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

var ctx = context.Background()

func master(b byte) []byte { return bytes.Repeat([]byte{b}, sealed.KeySize) }

func box(t testing.TB, keys ...[]byte) *sealed.Box {
	t.Helper()
	b, err := sealed.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeys(t *testing.T) {
	for name, keys := range map[string][][]byte{"none": nil, "short": {master(1)[:31]}, "long": {append(master(1), 1)}, "one of two": {master(1), nil}} {
		if _, err := sealed.New(keys...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSealOpen(t *testing.T) {
	b := box(t, master(1))
	for _, secret := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("secret "), 1000)} {
		s := b.Seal("place", secret)
		if len(secret) > 4 && bytes.Contains(s, secret[:5]) {
			t.Error("the secret is in the clear")
		}
		got, err := b.Open("place", s)
		if err != nil || got == nil || !bytes.Equal(got, secret) {
			t.Errorf("opened %q, %v", got, err)
		}
		if bytes.Equal(s, b.Seal("place", secret)) {
			t.Error("sealed twice to the same")
		}
	}
}

// Whatever is changed, nothing is opened.
func TestTampering(t *testing.T) {
	b := box(t, master(1))
	s := b.Seal("place", []byte("secret"))
	for i := range s {
		changed := bytes.Clone(s)
		changed[i] ^= 0x40
		if _, err := b.Open("place", changed); !errors.Is(err, sealed.ErrInvalid) && !errors.Is(err, sealed.ErrUnknownKey) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := b.Open("place", s[:i]); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	for _, place := range []string{"", "plac", "place2"} {
		if _, err := b.Open(place, s); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("moved to %q: %v", place, err)
		}
	}
	if _, err := box(t, master(2)).Open("place", s); !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("opened with another key: %v", err)
	}
}

// oldValue is a value of version 2, sealed with master(1).
var oldValue = must(hex.DecodeString("024a2547c4f0b5d8b45cd99c60905ebb21be9b9a8009d21972ee3e10a272243be093b5e04208f2"))

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestOldFormat: what an earlier version wrote is opened, never taken for something else, and
// sealed again in the format of today.
func TestOldFormat(t *testing.T) {
	b := box(t, master(2), master(1))
	if secret, err := b.Open("place", oldValue); err != nil || string(secret) != "secret" {
		t.Fatalf("%q, %v", secret, err)
	}
	if !b.Stale(oldValue) || !box(t, master(1)).Stale(oldValue) {
		t.Error("an old value is not stale")
	}
	if _, err := b.Open("other", oldValue); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("another place: %v", err)
	}
	if _, err := box(t, master(2)).Open("place", oldValue); !errors.Is(err, sealed.ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	for i := range oldValue {
		changed := bytes.Clone(oldValue)
		changed[i] ^= 1
		if _, err := b.Open("place", changed); err == nil {
			t.Errorf("byte %d changed, and it opens", i)
		}
		if _, err := b.Open("place", oldValue[:i]); err == nil {
			t.Errorf("cut to %d bytes, and it opens", i)
		}
	}
	fresh, err := b.Reseal("place", oldValue)
	if err != nil || b.Stale(fresh) {
		t.Fatalf("%x, %v", fresh, err)
	}
	if secret, err := box(t, master(2)).Open("place", fresh); err != nil || string(secret) != "secret" {
		t.Errorf("%q, %v", secret, err)
	}
	if _, err := b.Reseal("other", oldValue); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("resealed for another place: %v", err)
	}
}

func TestRotate(t *testing.T) {
	kv := memory.New(memory.Config{}).KV
	old, both, fresh := box(t, master(1)), box(t, master(2), master(1)), box(t, master(2))
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	const n = 450
	want := map[string]string{}
	if err := kv.Write(ctx, func(tx storage.KVTx) error {
		for i := range n {
			key := fmt.Sprintf("secrets/%03d", i)
			want[key] = fmt.Sprint("secret ", i)
			seal := old
			if i%10 == 0 {
				seal = both // sealed with the new key already
			}
			if err := seal.Set(ctx, tx, key, []byte(want[key]), expires); err != nil {
				return err
			}
		}
		return tx.Set(ctx, "zzz", []byte("in the clear"), time.Time{})
	}); err != nil {
		t.Fatal(err)
	}
	secrets := storage.Range{From: "secrets/", To: "secrets0"}
	for i, changed := range []int{n - n/10, 0} {
		if got, err := both.Rotate(ctx, kv, secrets); err != nil || got != changed {
			t.Fatalf("rotation %d: %d, %v", i, got, err)
		}
	}
	got := map[string]string{}
	if err := kv.Read(ctx, func(r storage.KVReader) error {
		for p, err := range r.Keys(ctx, secrets) {
			if err != nil {
				return err
			}
			if !p.Expires.Equal(expires) {
				t.Errorf("%s expires %v", p.Key, p.Expires)
			}
			secret, err := fresh.Get(ctx, r, p.Key)
			if err != nil {
				return err
			}
			got[p.Key] = string(secret)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := both.Rotate(ctx, kv, storage.Range{}); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("rotation of a value that is not sealed: %v", err)
	}
	if _, err := fresh.Rotate(ctx, kv, secrets); err != nil {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	b := box(f, master(1))
	f.Add("place", b.Seal("place", []byte("secret")))
	f.Add("", []byte{1})
	f.Add("place", oldValue)
	f.Fuzz(func(t *testing.T, place string, s []byte) {
		if secret, err := b.Open(place, s); err == nil && string(secret) != "secret" {
			t.Fatalf("forged %q", secret)
		}
	})
}

func Example() {
	ctx := context.Background()
	kv := memory.New(memory.Config{}).KV
	masterKey := bytes.Repeat([]byte{7}, sealed.KeySize) // 32 random bytes, from a file or a key management service
	box, err := sealed.New(masterKey)
	if err != nil {
		panic(err)
	}
	err = kv.Write(ctx, func(tx storage.KVTx) error {
		return box.Set(ctx, tx, "keys/did:web:alice.example", []byte("a signing key"), time.Time{})
	})
	if err != nil {
		panic(err)
	}
	err = kv.Read(ctx, func(r storage.KVReader) error {
		secret, err := box.Get(ctx, r, "keys/did:web:alice.example")
		fmt.Printf("%s\n", secret)
		return err
	})
	if err != nil {
		panic(err)
	}
	// Output: a signing key
}
