package source

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"Alice": "Alice", "  Alice \n\t of  W. ": "Alice of W.", "a\u202eb\u2066c\u200fd": "abcd", "a\x00b\x7fc": "abc", "\xffa": "a",
		strings.Repeat("x", 1000): strings.Repeat("x", maxName), "e\u0301\u0301\u0301\u0301\u0301\u0301": "e\u0301\u0301\u0301",
		"👩‍👩‍👧": "👩‍👩‍👧", "": "", "\u202e": "", "<b>": "<b>",
	} {
		if got := clean(name); got != want {
			t.Errorf("%q becomes %q, not %q", name, got, want)
		}
	}
	for _, record := range []string{"", "\xa0", "\xa1kdisplayName\x05", "\xff", "\xa1kdisplayNamedname"} {
		if got := displayName([]byte(record)); got != "" && got != "name" {
			t.Errorf("%q has the name %q", record, got)
		}
	}
}

// FuzzMessage: whatever a Jetstream sends, an operation is one that the index can take.
func FuzzMessage(f *testing.F) {
	typ, err := status.New()
	if err != nil {
		f.Fatal(err)
	}
	n := &Network{Type: typ, Now: time.Now}
	f.Add([]byte(`{"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","time_us":1725911162329308,"kind":"commit","commit":{"rev":"3l3qo2vutsw2b","operation":"create",` +
		`"collection":"xyz.statusphere.status","rkey":"3l3qo2vuowo2b","record":{"$type":"xyz.statusphere.status","status":"👍","createdAt":"2024-09-09T19:46:02.102Z"}}}`))
	f.Add([]byte(`{"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","time_us":1,"kind":"commit","commit":{"rev":"3l3qo2vutsw2b","operation":"delete","collection":"xyz.statusphere.status","rkey":"3l3qo2vuowo2b"}}`))
	f.Add([]byte(`{"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","time_us":1,"kind":"account","account":{"active":false,"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}}`))
	f.Add([]byte(`{"did":"did:a:0","time_us":1,"commit":{"operation":"create"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parse(b)
		if err != nil || e.Commit == nil {
			return
		}
		op, err := n.operation(&e)
		if err == nil && (op.RKey == "" || e.DID == "" || e.Commit.Rev == "" || op.Status != nil && (op.CID == "" || len(op.Status.Text) > 32)) {
			t.Errorf("%+v", op)
		}
		_ = index.Commit{DID: e.DID, Rev: e.Commit.Rev, Ops: []index.Op{op}}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("Alice \u202e")
	f.Add("0 \x00 0")
	f.Fuzz(func(t *testing.T, s string) {
		if got := clean(s); utf8.RuneCountInString(got) > maxName || !utf8.ValidString(got) || clean(got) != got {
			t.Errorf("%q becomes %q, then %q", s, got, clean(got))
		}
	})
}
