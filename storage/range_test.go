package storage_test

import (
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

func TestPrefix(t *testing.T) {
	for prefix, want := range map[string]string{"": "", "a": "b", "a/": "a0", "a\xff": "b", "\xff\xff": "", "created/": "created0"} {
		r := storage.Prefix(prefix)
		if r.From != prefix || r.To != want || r.Reverse || r.KeysOnly {
			t.Errorf("%q: %+v", prefix, r)
		}
	}
}

// FuzzPrefix: a key is in the range exactly if it has the prefix.
func FuzzPrefix(f *testing.F) {
	f.Add("a/", "a/b")
	f.Add("a\xff", "b")
	f.Add("\xff", "\xff\xff")
	f.Fuzz(func(t *testing.T, prefix, key string) {
		r := storage.Prefix(prefix)
		if in := key >= r.From && (r.To == "" || key < r.To); in != strings.HasPrefix(key, prefix) {
			t.Errorf("prefix %q, key %q: %v", prefix, key, in)
		}
	})
}
