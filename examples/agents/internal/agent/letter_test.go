package agent

import (
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// TestLetter: a message is opened by its reader alone, and only in its own place. Its length tells
// the length of the text to 256 bytes only.
func TestLetter(t *testing.T) {
	private, public, err := newLetterKey()
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := newLetterKey()
	const from, to, rkey = syntax.DID("did:plc:a"), syntax.DID("did:plc:b"), syntax.RecordKey("3jzfcijpj2z2a")
	for _, text := range []string{"", "hello", strings.Repeat("x", 3000)} {
		encapsulated, sealed, err := sealLetter(public, from, to, rkey, text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := openLetter(private, from, to, rkey, encapsulated, sealed); err != nil || got != text {
			t.Errorf("%q, %v", got, err)
		}
		if (len(sealed)-16)%block != 0 {
			t.Errorf("%d bytes", len(sealed))
		}
		for name, open := range map[string]func() (string, error){
			"another key":          func() (string, error) { return openLetter(other, from, to, rkey, encapsulated, sealed) },
			"shown by another":     func() (string, error) { return openLetter(private, "did:plc:c", to, rkey, encapsulated, sealed) },
			"shown to another":     func() (string, error) { return openLetter(private, from, "did:plc:c", rkey, encapsulated, sealed) },
			"under another record": func() (string, error) { return openLetter(private, from, to, "3jzfcijpj2z2b", encapsulated, sealed) },
			"changed": func() (string, error) {
				return openLetter(private, from, to, rkey, encapsulated, append([]byte{1}, sealed[1:]...))
			},
		} {
			if got, err := open(); err == nil {
				t.Errorf("%s: %q is opened", name, got)
			}
		}
	}
}

// FuzzLetter: nothing that a stranger writes does more than fail.
func FuzzLetter(f *testing.F) {
	private, public, err := newLetterKey()
	if err != nil {
		f.Fatal(err)
	}
	encapsulated, sealed, _ := sealLetter(public, "did:plc:a", "did:plc:b", "self", "hello")
	f.Add(encapsulated, sealed)
	f.Add(make([]byte, 32), []byte{})
	f.Fuzz(func(t *testing.T, encapsulated, sealed []byte) {
		_, _ = openLetter(private, "did:plc:a", "did:plc:b", "self", encapsulated, sealed)
	})
}
