package status

import (
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
)

func newType(t *testing.T) *Type {
	t.Helper()
	typ, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

func TestRecords(t *testing.T) {
	typ, now := newType(t), time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	texts := []string{"👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "👍🏽", "1️⃣", "é", "<", "愛", "ก็"}
	for _, o := range Options() {
		texts = append(texts, o.Text)
	}
	for _, text := range texts {
		record, err := typ.Record(text, now)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		b, err := data.Encode(record)
		if err != nil {
			t.Fatal(err)
		}
		got, err := typ.CBOR("3lrlzvvvvvv2a", b)
		if err != nil || got != (Status{text, now}) {
			t.Errorf("%q in CBOR: %v, %v", text, got, err)
		}
		j, err := data.ToJSON(record)
		if err != nil {
			t.Fatal(err)
		}
		got, again, err := typ.JSON("3lrlzvvvvvv2a", j)
		if err != nil || got != (Status{text, now}) || string(again) != string(b) {
			t.Errorf("%q in JSON: %v, %v", text, got, err)
		}
	}
}

func TestWrongStatuses(t *testing.T) {
	typ := newType(t)
	for name, text := range map[string]string{
		"nothing": "", "two": "👍👍", "two letters": "ab", "a space and an emoji": " 👍",
		"longer than 32 bytes": "e" + strings.Repeat("\u0301", 16), "a space": " ", "a line": "\n", "no text": "\xff",
		"a reversed text": "\u202e", "an emoji that reverses": "👍\u200f", "nothing of width": "\u200b", "a filler": "\u3164",
		"a joiner": "\u200d", "braille blank": "\u2800",
	} {
		if _, err := typ.Record(text, time.Now()); err == nil {
			t.Errorf("%s: %q is taken", name, text)
		}
	}
}

func TestWrongRecords(t *testing.T) {
	typ := newType(t)
	const good = `{"$type":"xyz.statusphere.status","status":"👍","createdAt":"2026-08-01T12:00:00Z"}`
	if _, _, err := typ.JSON("3lrlzvvvvvv2a", []byte(good)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := typ.JSON("self", []byte(good)); err == nil {
		t.Error("a record key that is no TID is taken")
	}
	for _, record := range []string{
		``, `null`, `[]`, `"👍"`, `{}`, strings.Replace(good, "statusphere", "other", 1), strings.Replace(good, `"👍"`, `{"a":1}`, 1),
		strings.Replace(good, `"👍"`, `["👍"]`, 1), strings.Replace(good, "2026-08-01T12:00:00Z", "yesterday", 1),
		strings.Replace(good, "{", `{"status":"👎",`, 1), strings.Replace(good, `"status"`, `"Status"`, 1),
		`{"$type":"xyz.statusphere.status","status":"👍"}`, good + good,
		strings.Repeat("[", 1<<20),
	} {
		if s, _, err := typ.JSON("3lrlzvvvvvv2a", []byte(record)); err == nil {
			t.Errorf("%.80s is taken: %v", record, s)
		}
	}
}

func FuzzCBOR(f *testing.F) {
	typ, err := New()
	if err != nil {
		f.Fatal(err)
	}
	record, err := typ.Record("🧑‍💻", time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
	if err != nil {
		f.Fatal(err)
	}
	b, err := data.Encode(record)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := typ.CBOR("3lrlzvvvvvv2a", b)
		if err == nil && (s.Text == "" || len(s.Text) > 32 || !visible(s.Text)) {
			t.Errorf("%q is a status", s.Text)
		}
		j, err2 := data.AppendJSON(nil, b)
		if err2 != nil {
			return
		}
		again, enc, err2 := typ.JSON("3lrlzvvvvvv2a", j)
		if err == nil && (err2 != nil || again != s || string(enc) != string(b)) {
			t.Errorf("in JSON: %v, %v; in CBOR: %v", again, err2, s)
		}
	})
}
