package recent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"
	"unicode/utf8"
)

func newLog(x *Errors) *slog.Logger {
	return slog.New(x.Handler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError})))
}

func TestErrorsAreKept(t *testing.T) {
	x := &Errors{Hosts: []string{"relay.example.net"}}
	log := newLog(x)
	log.Info("nothing")
	log.Warn("request", "id", "abc", "method", "com.atproto.repo.createRecord", "status", 500, "did", "did:plc:secret", "agent", "x", "from", "192.0.2.1")
	for range 3 {
		log.Error("send mail", "kind", "reset_password", "did", "did:plc:secret", "err", errors.New(`dial tcp 192.0.2.7:25: alice@example.com refused "token-1234"`))
	}
	log.With("relay", "https://relay.example.net").Warn("a relay failed")
	log.With("err", "in a group").WithGroup("g").With("err", "secret of a group").Warn("grouped", "err", "secret of a group")
	list := x.List()
	if len(list) != 4 {
		t.Fatalf("%+v", list)
	}
	if e := list[0]; e.Message != "grouped" || e.Error != "in a group" {
		t.Errorf("%+v", e)
	}
	if e := list[1]; e.More != "relay=https://relay.example.net" {
		t.Errorf("%+v", e)
	}
	if e := list[2]; e.Count != 3 || e.Error != `dial tcp …: … refused "…"` || e.More != "kind=reset_password" || e.Level != slog.LevelError || e.First.After(e.Last) {
		t.Errorf("%+v", e)
	}
	if e := list[3]; e.Method != "com.atproto.repo.createRecord" || e.More != "status=500" || strings.Contains(fmt.Sprintf("%+v", e), "secret") {
		t.Errorf("%+v", e)
	}
}

// What is passed on is what would be logged without it.
func TestHandlerPassesOn(t *testing.T) {
	var buf strings.Builder
	h := (&Errors{}).Handler(slog.NewJSONHandler(&buf, nil))
	slogtest.Run(t, func(*testing.T) slog.Handler { buf.Reset(); return h }, func(t *testing.T) map[string]any {
		m, err := parseJSON(buf.String())
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

func TestWhatIsPersonalIsLeftOut(t *testing.T) {
	x := &Errors{Hosts: []string{"plc.directory"}}
	for text, want := range map[string]string{
		"disk I/O error": "disk I/O error",
		"open /var/lib/pds/pds.sqlite: no space left":                                           "open /var/lib/pds/pds.sqlite: no space left",
		`Get "https://plc.directory/did:plc:abc": dial tcp: lookup plc.directory: no such host`: `Get "…": dial tcp: lookup plc.directory: no such host`,
		"lookup alice.example.com: no such host":                                                "lookup …: no such host",
		"https://plc.directory/did:plc:aaaaaaaa failed":                                         "https://plc.directory/… failed",
		"https://user:pass@evil.example/x?token=1":                                              "…",
		"https://evil.example/x?token=1":                                                        "https://…/…",
		"alice@example.com":                                                                     "…",
		"<alice@example.com>, bob":                                                              "<…>, bob",
		"token=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9":                                            "token=…",
		"bafkreiciqbhlghztjqn2picusww5pxwwp7m7srqz2b7vk32z4":                                    "…",
		"at://did:plc:x/app.bsky.feed.post/3k":                                                  "at://…/…",
		"at://alice.test/app.bsky.feed.post/3k":                                                 "at://…/…",
		"[2001:db8::1]:443 refused":                                                             "[…]:443 refused",
		"10.0.0.1 and 10.0.0.1:80":                                                              "… and …",
		`unfinished "quote of alice`:                                                            `unfinished "…"`,
		`quote with "a\"b" end`:                                                                 `quote with "…" end`,
		"did not work":                                                                          "did not work",
		"method com.atproto.repo.createRecord is slow":                                          "method com.atproto.repo.createRecord is slow",
		"context deadline exceeded":                                                             "context deadline exceeded",
		"a%40b":                                                                                 "…",
	} {
		if got := x.clean(text, false); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	for name, want := range map[string]string{"com.example.note": "com.example.note", "alice@example.com": blank, "other": "other", "did:plc:x": blank, "alice.test": blank} {
		if got := x.clean(name, true); got != want {
			t.Errorf("method %s: %s", name, got)
		}
	}
}

// A flood of different errors takes bounded memory; one of the same error drives nothing out.
func TestFlood(t *testing.T) {
	x := &Errors{Bytes: 20_000}
	log := newLog(x)
	log.Error("the disk is full")
	for range 10_000 {
		log.Error("again", "err", "the same")
	}
	if list := x.List(); len(list) != 2 || list[0].Count != 10_000 || list[1].Message != "the disk is full" {
		t.Errorf("%+v", list)
	}
	log = slog.New(x.Handler(slog.DiscardHandler))
	long := strings.Repeat("x y ", 1<<16)
	for i := range 40 {
		log.Error(fmt.Sprint(i, long), "err", fmt.Sprint(i, long), "method", long, "relay", long, "status", long)
	}
	if list := x.List(); len(list) < 2 || len(list) > 20 || x.size > 20_000 || len(x.by) != len(list) || !strings.HasPrefix(list[0].Message, "39") {
		t.Errorf("%d entries, %d bytes, %d known", len(list), x.size, len(x.by))
	}
	one := &Errors{Bytes: 1}
	newLog(one).Error("a")
	newLog(one).Error("b")
	if list := one.List(); len(list) != 1 || list[0].Message != "b" {
		t.Errorf("%+v", list)
	}
}

func TestConcurrent(t *testing.T) {
	x := &Errors{}
	log := newLog(x)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				log.Warn("w", "err", fmt.Sprint(i, " ", j%10))
				x.List()
			}
		})
	}
	all.Wait()
	n := 0
	for _, e := range x.List() {
		n += e.Count
	}
	if n != 1600 {
		t.Errorf("%d", n)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{`a "b`, "x@y", "did:plc:x", "https://a.b/c", "[::1]:80", "a=b=c", "'q'", "`"} {
		f.Add(s)
	}
	x := &Errors{}
	f.Fuzz(func(t *testing.T, s string) {
		start := time.Now()
		got := clip(x.clean(clip(s, maxRead), false), maxError)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00") || len(got) > maxError {
			t.Errorf("%q", got)
		}
		if strings.Contains(got, "@") && strings.Contains(s, "@") && !strings.ContainsAny(s, " \t()[]{}<>,;\"'`=") {
			t.Errorf("%q has an address: %q", s, got)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%v", d)
		}
	})
}

func Example() {
	errs := &Errors{}
	log := slog.New(errs.Handler(slog.DiscardHandler))
	log.Error("send mail", "to", "alice@example.com", "err", errors.New("550 <alice@example.com>: no such user"))
	log.Error("send mail", "to", "bob@example.com", "err", errors.New("550 <bob@example.com>: no such user"))
	for _, e := range errs.List() {
		fmt.Printf("%d× %s: %s\n", e.Count, e.Message, e.Error)
	}
	// Output: 2× send mail: 550 <…>: no such user
}
