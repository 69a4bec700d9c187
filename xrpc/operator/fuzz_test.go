package operator

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pdskit/pdskit/xrpc/site"
)

func FuzzParseSubject(f *testing.F) {
	f.Add(int(anAccount), "did:web:a.example.com")
	f.Add(int(aPart), "at://did:web:a.example.com/com.example.note/1")
	f.Add(int(aPart), "did:web:a.example.com bafkreiciqbhlghztjqn2picusww5pxwwp7m7srqz2b7vk32z4vrk2lpzv4")
	f.Add(int(aCode), "pds-test-aaaaa-bbbbb")
	f.Add(int(aSubscriber), "17")
	f.Add(int(aRelay), "https://relay.example.net")
	f.Fuzz(func(t *testing.T, k int, text string) {
		x, err := parseSubject(kind(k), text)
		if err != nil {
			if err != errName {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if !utf8.ValidString(x.text) || strings.ContainsAny(x.text, "\r\n\x00") || len(x.text) > maxName {
			t.Errorf("%q", x.text)
		}
		again, err := parseSubject(kind(k), x.text)
		if err != nil || again != x {
			t.Errorf("%q: %+v, %v", text, again, err)
		}
		if to := pageAfter("takedown", x); !strings.HasPrefix(to, Root+"/") || strings.ContainsAny(to, "\r\n ") {
			t.Errorf("leads to %q", to)
		}
	})
}

func FuzzSession(f *testing.F) {
	f.Add([]byte(`{"version":1,"since":"2026-01-15T12:00:00Z","seen":"2026-01-15T12:00:00Z","mark":"x"}`))
	f.Add([]byte(`{"Version":1}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		x, err := read(doc, nil)
		if err != nil {
			return
		}
		again, err := json.Marshal(x)
		if err != nil {
			t.Skip() // a year of more than four digits
		}
		if y, err := read(again, nil); err != nil || y.Mark != x.Mark || !y.Since.Equal(x.Since) || !y.Seen.Equal(x.Seen) || y.ends().After(y.Since.Add(sessionLife)) {
			t.Errorf("%s: %+v, %v", again, y, err)
		}
	})
}

func FuzzBackup(f *testing.F) {
	f.Add([]byte(`{"at":"2026-01-15T12:00:00Z","path":"/backups","bytes":1,"good":true}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		x, err := decodeBackup(doc)
		if err != nil {
			return
		}
		again, err := json.Marshal(x)
		if err != nil || len(again) > maxBackup {
			t.Skip()
		}
		if y, err := decodeBackup(again); err != nil || y.Path != x.Path || !y.At.Equal(x.At) {
			t.Errorf("%s: %+v, %v", again, y, err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("q=alice&cursor=x")
	f.Add("%zz&a=b&a=c")
	f.Fuzz(func(t *testing.T, raw string) {
		r := httptest.NewRequest("GET", "/admin/accounts", nil)
		r.URL.RawQuery = raw
		q, err := query(&call{Call: &site.Call{R: r}})
		if err != nil {
			return
		}
		for name, list := range q {
			if len(list) != 1 || !utf8.ValidString(list[0]) || len(list[0]) > maxName {
				t.Errorf("%q: %q", name, list)
			}
		}
		if to := next(pathAccounts, q, "x"); strings.ContainsAny(to, "\r\n ") {
			t.Errorf("%q", to)
		}
	})
}
