package syntax_test

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// parsers are all formats, by the names of their fixture files.
var parsers = map[string]func(string) error{
	"atidentifier": func(s string) error { _, err := syntax.ParseAtIdentifier(s); return err },
	"aturi":        func(s string) error { _, err := syntax.ParseATURI(s); return err },
	"cid":          func(s string) error { _, err := syntax.ParseCID(s); return err },
	"datetime":     func(s string) error { _, err := syntax.ParseDatetime(s); return err },
	"did":          func(s string) error { _, err := syntax.ParseDID(s); return err },
	"handle":       func(s string) error { _, err := syntax.ParseHandle(s); return err },
	"language":     func(s string) error { _, err := syntax.ParseLanguage(s); return err },
	"nsid":         func(s string) error { _, err := syntax.ParseNSID(s); return err },
	"recordkey":    func(s string) error { _, err := syntax.ParseRecordKey(s); return err },
	"tid":          func(s string) error { _, err := syntax.ParseTID(s); return err },
	"uri":          func(s string) error { _, err := syntax.ParseURI(s); return err },
}

// lines returns the cases of a fixture file.
func lines(t *testing.T, path string) []string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if line := sc.Text(); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

func TestInteropFixtures(t *testing.T) {
	for name, parse := range parsers {
		t.Run(name, func(t *testing.T) {
			for _, s := range lines(t, testenv.Shared(t, "interop/syntax/"+name+"_syntax_valid.txt")) {
				if err := parse(s); err != nil {
					t.Errorf("valid, but: %v", err)
				}
			}
			for _, s := range lines(t, testenv.Shared(t, "interop/syntax/"+name+"_syntax_invalid.txt")) {
				err := parse(s)
				var e *syntax.Error
				if !errors.As(err, &e) {
					t.Errorf("%q: invalid, but accepted (%v)", s, err)
				} else if e.Offset < 0 || e.Offset > len(s) {
					t.Errorf("%q: offset %d is outside", s, e.Offset)
				}
			}
		})
	}
	t.Run("datetime parse", func(t *testing.T) {
		for _, s := range lines(t, testenv.Shared(t, "interop/syntax/datetime_parse_invalid.txt")) {
			if _, err := syntax.ParseDatetime(s); err == nil {
				t.Errorf("%q: accepted", s)
			}
		}
	})
}

func TestNoAllocationOnSuccess(t *testing.T) {
	for name, parse := range parsers {
		for _, s := range lines(t, testenv.Shared(t, "interop/syntax/"+name+"_syntax_valid.txt")) {
			if n := testing.AllocsPerRun(10, func() { _ = parse(s) }); n != 0 {
				t.Errorf("%s %.64q: %v allocations", name, s, n)
			}
		}
	}
}

// FuzzAll checks that no format panics, that what is valid survives a round
// trip as text, and that the offset of an error lies in the input.
func FuzzAll(f *testing.F) {
	for _, s := range []string{"", "did:plc:abc", "a.b", "app.bsky.feed.post", "at://a.b/c.d.e/f", "3jzfcijpj2z2a",
		"2024-02-29T23:59:60.1+01:00", "de-CH-x-abc", "i-klingon", "en-a-bb-x-y", "https://x", "bafyreihash"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, parse := range parsers {
			var e *syntax.Error
			if err := parse(s); err != nil && (!errors.As(err, &e) || e.Offset < 0 || e.Offset > len(s)) {
				t.Errorf("%s %q: error %v", name, s, err)
			}
		}
		for format, c := range texts {
			if v, err := c.read("", s); err == nil && v.String() != s {
				t.Errorf("%s %q is read as %q", format, s, v)
			}
		}
		if d, err := syntax.ParseDatetime(s); err == nil {
			norm := d.Normalize()
			if _, err := syntax.ParseDatetime(string(norm)); err != nil || norm.Normalize() != norm || !norm.Time().Equal(d.Time().Truncate(time.Millisecond)) {
				t.Errorf("normal form of %q: %s, %v", s, norm, err)
			}
		}
		if tid, err := syntax.ParseTID(s); err == nil && tid < "c" && syntax.NewTID(tid.Time(), tid.Clock()) != tid {
			t.Errorf("%s is of %v and clock %d", s, tid.Time(), tid.Clock())
		}
		if u, err := syntax.ParseATURI(s); err == nil {
			if _, err := syntax.ParseATURI(string(u.Normalize())); err != nil || u.Normalize().RecordKey() != u.RecordKey() {
				t.Errorf("normal form of %q: %s, %v", s, u.Normalize(), err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, s := range map[string]string{
		"did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "handle": "alice.example.com", "nsid": "app.bsky.feed.post",
		"tid": "3jzfcijpj2z2a", "datetime": "2024-01-15T12:30:45.123Z", "language": "zh-Hant-TW",
		"aturi": "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := parsers[name](s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
