package site

import (
	"testing"

	"github.com/pdskit/pdskit/internal/digest"
)

// Nobody but the server makes what it takes for its own.
func FuzzUnseal(f *testing.F) {
	key := digest.Derive([]byte("a secret"), "test")
	good := seal(key, "device", pair{"x", 1})
	f.Add(good, "device")
	f.Add("", "")
	f.Add(".", "device")
	f.Add("bnVsbA.", "device")
	f.Fuzz(func(t *testing.T, text, device string) {
		var x pair
		if unseal(key, device, text, &x) && (text != good || device != "device") {
			t.Errorf("%q is taken for %q", text, device)
		}
	})
}

type pair struct {
	Text   string `json:"text"`
	Number int    `json:"number"`
}
