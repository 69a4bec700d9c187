package syntax_test

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// text is what every format's type is. As none encodes itself, encoding/json writes them as fast as
// strings.
type text = fmt.Stringer

// texts are all formats of the Lexicon language with a valid and an invalid string, and a way to
// read one into a value that has it already.
var texts = map[string]struct {
	valid, invalid string
	read           func(had, s string) (text, error)
}{
	"at-identifier": {"alice.example.com", "alice", reader[syntax.AtIdentifier]},
	"at-uri":        {"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a", "at://", reader[syntax.ATURI]},
	"cid":           {"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity", "bafy", reader[syntax.CID]},
	"datetime":      {"2024-01-15T12:30:45.123Z", "2024-01-15", reader[syntax.Datetime]},
	"did":           {"did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:plc:", reader[syntax.DID]},
	"handle":        {"Alice.example.com", "alice", reader[syntax.Handle]},
	"language":      {"zh-Hant-TW", "zh_Hant", reader[syntax.Language]},
	"nsid":          {"app.bsky.feed.post", "app.bsky", reader[syntax.NSID]},
	"record-key":    {"self", "a/b", reader[syntax.RecordKey]},
	"tid":           {"3jzfcijpj2z2a", "3jzfcijpj2z2", reader[syntax.TID]},
	"uri":           {"https://example.com", "https:", reader[syntax.URI]},
}

func reader[T interface {
	~string
	text
}, P interface {
	*T
	encoding.TextUnmarshaler
}](had, s string) (text, error) {
	v := T(had)
	err := P(&v).UnmarshalText([]byte(s))
	return v, err
}

func TestTextRoundTrip(t *testing.T) {
	if len(texts) != len(parsers) {
		t.Errorf("%d formats of %d", len(texts), len(parsers))
	}
	for format, c := range texts {
		v, err := c.read("", c.valid)
		if err != nil {
			t.Errorf("%s: %v", format, err)
		}
		b, err := json.Marshal(map[string]any{"a": v})
		if want := fmt.Sprintf(`{"a":%q}`, c.valid); err != nil || string(b) != want || v.String() != c.valid {
			t.Errorf("%s: %q comes back as %s and %q, %v", format, c.valid, b, v, err)
		}
		v, err = c.read(c.valid, c.invalid)
		var e *syntax.Error
		if !errors.As(err, &e) || e.Format != format || e.Input != c.invalid || v.String() != "" {
			t.Errorf("%s: %q is read as %q, %v", format, c.invalid, v, err)
		}
		if v, err = c.read(c.valid, ""); err != nil || v.String() != "" {
			t.Errorf("%s: no text is read as %q, %v", format, v, err)
		}
	}
}

func TestErrorsSayAtWhichByte(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		format, in string
		at         int
	}{
		{"did", "dod:plc:x", 0}, {"did", "did:", 4}, {"did", "did:PLC:x", 4}, {"did", "did:plc", 7}, {"did", "did:plc:", 8}, {"did", "did:plc:a b", 9},
		{"did", "did:plc:a:", 9}, {"did", "did:web:a%", 9}, {"did", "did:plc:" + strings.Repeat("a", 2041), 2048},
		{"handle", "", 0}, {"handle", "alice", 5}, {"handle", "al_ice.test", 2}, {"handle", "alice..test", 6}, {"handle", "alice.test.", 11}, {"handle", "-a.test", 0},
		{"handle", "a-.test", 1}, {"handle", "a.1test", 2}, {"handle", "a.é", 2}, {"handle", long + ".test", 63}, {"handle", strings.Repeat("abc.", 63) + "test", 253},
		{"atidentifier", "did:", 4}, {"atidentifier", "a@b.c", 1},
		{"nsid", "a.b", 3}, {"nsid", "abc", 3}, {"nsid", "1a.b.c", 0}, {"nsid", "a.b.", 4}, {"nsid", "a.b.1c", 4}, {"nsid", "a.b.c-d", 5}, {"nsid", "a..c", 2}, {"nsid", "a.b.c*", 5},
		{"nsid", "a.b." + long, 67},
		{"recordkey", "", 0}, {"recordkey", ".", 0}, {"recordkey", "a/b", 1}, {"recordkey", "abcé", 3}, {"recordkey", strings.Repeat("a", 513), 512},
		{"tid", "", 0}, {"tid", "3jzfcijpj2z2", 12}, {"tid", "3jzfcijpj2z2aa", 13}, {"tid", "3jzfcijpj2z1a", 11}, {"tid", "kjzfcijpj2z2a", 0}, {"tid", "3JZFCIJPJ2Z2A", 1},
		{"aturi", "http://a.b", 0}, {"aturi", "at://", 5}, {"aturi", "at://a.b/", 9}, {"aturi", "at://a.b/c.d.e/", 15}, {"aturi", "at://a.b/c.d.e/f/g", 16}, {"aturi", "at://a.b/c.d.e#x", 14},
		{"datetime", "2024-01-15 12:30:45Z", 10}, {"datetime", "2024-01-15T12:30Z", 16}, {"datetime", "2024-13-15T12:30:45Z", 5}, {"datetime", "2023-02-29T12:30:45Z", 8},
		{"datetime", "2024-01-15T24:30:45Z", 11}, {"datetime", "2024-01-15T12:60:45Z", 14}, {"datetime", "2024-01-15T12:30:60Z", 17}, {"datetime", "2024-01-15T12:30:45", 19},
		{"datetime", "2024-01-15T12:30:45.Z", 20}, {"datetime", "2024-01-15T12:30:45z", 19}, {"datetime", "2024-01-15T12:30:45-00:00", 19}, {"datetime", "2024-01-15T12:30:45+24:00", 19},
		{"datetime", "0000-01-01T00:00:00+01:00", 0}, {"datetime", "9999-12-31T23:59:59-00:01", 0},
		{"language", "", 0}, {"language", "e", 0}, {"language", "EN", 0}, {"language", "en_US", 2}, {"language", "en--US", 3}, {"language", "en-x", 4}, {"language", "en-a", 4},
		{"language", "en-US-US", 6}, {"language", "en-abcdefghi", 11},
		{"uri", "", 0}, {"uri", "://x", 0}, {"uri", "1a:x", 0}, {"uri", "https", 5}, {"uri", "ht tp:x", 2}, {"uri", "https:", 6}, {"uri", "https://a b", 9}, {"uri", "https://a\x7f", 9},
		{"cid", "bafy", 4}, {"cid", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", 0}, {"cid", "bafyreic/ldh", 8}, {"cid", strings.Repeat("b", 257), 256},
	} {
		var e *syntax.Error
		if err := parsers[c.format](c.in); !errors.As(err, &e) || e.Offset != c.at || e.Reason == "" {
			t.Errorf("%s %.80q: %v, want a fault at byte %d", c.format, c.in, err, c.at)
		}
	}
	_, err := syntax.ParseDID("did:plc:" + strings.Repeat("x", 1e6) + "é")
	if len(err.Error()) > 200 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestNormalForms(t *testing.T) {
	for in, want := range map[string]string{
		string(syntax.Handle("ALICE.Example.COM").Normalize()):                     "alice.example.com",
		string(syntax.NSID("COM.Example.fooBar").Normalize()):                      "com.example.fooBar",
		string(syntax.Datetime("2024-01-15T12:30:45+02:00").Normalize()):           "2024-01-15T10:30:45.000Z",
		string(syntax.Datetime("2024-01-15T12:30:45.1239Z").Normalize()):           "2024-01-15T12:30:45.123Z",
		string(syntax.Datetime("9999-12-31T23:59:59.999999Z").Normalize()):         "9999-12-31T23:59:59.999Z",
		string(syntax.Datetime("0000-01-01T01:00:00+01:00").Normalize()):           "0000-01-01T00:00:00.000Z",
		string(syntax.ATURI("at://Alice.EXAMPLE.com/Com.Example.x/Y").Normalize()): "at://alice.example.com/com.example.x/Y",
		string(syntax.ATURI("at://did:web:X").Normalize()):                         "at://did:web:X",
		string(syntax.AtIdentifier("Alice.Test").Normalize()):                      "alice.test",
		string(syntax.AtIdentifier("did:web:X").Normalize()):                       "did:web:X",
	} {
		if in != want {
			t.Errorf("%s, want %s", in, want)
		}
	}
}

// Parts of identifiers that were not checked are whatever they are, but nothing panics.
func TestPartsOfWhatWasNotChecked(t *testing.T) {
	for _, s := range []string{"", ".", "#", "at:", "at://", "did", "did:", "x/y/z", "a..b", "é"} {
		_ = fmt.Sprint(syntax.DID(s).Method(), syntax.DID(s).Identifier(), syntax.Handle(s).TLD(), syntax.Handle(s).Normalize(), syntax.NSID(s).Name(), syntax.NSID(s).Authority(),
			syntax.NSID(s).Normalize(), syntax.ATURI(s).Authority(), syntax.ATURI(s).Collection(), syntax.ATURI(s).RecordKey(), syntax.ATURI(s).Normalize(),
			syntax.Datetime(s).Time(), syntax.Datetime(s).Normalize(), syntax.TID(s).Time(), syntax.TID(s).Clock())
	}
}
