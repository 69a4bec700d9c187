package owner

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// What a browser says of itself, and what a handle is, ends in no more than a line of text, and a name
// that is good for a header.
func FuzzNames(f *testing.F) {
	for _, s := range []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "curl/8", "alice.example.com", "\xff\r\nX: y", `a";b`, "..", "", "did:web:localhost%3A2583", "https://x.example:8443/y#z",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name := agentName(s); len(name) > 80 || !utf8.ValidString(name) {
			t.Errorf("%q: %q", s, name)
		}
		if name := fileName(s); name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || name[0] == '.' {
			t.Errorf("%q: %q", s, name)
		}
		if host := hostOf(s); strings.ContainsAny(host, "/ \r\n") {
			t.Errorf("%q: %q", s, host)
		}
	})
}

func TestAgentName(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "Firefox · Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0":           "Edge · Windows",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36":                         "Chrome · Android",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1": "Safari · iPhone",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15":                   "Safari · macOS",
		"curl/8.5.0": "curl/8.5.0",
		"":           "",
	} {
		if got := agentName(agent); got != want {
			t.Errorf("%s: %q, want %q", agent, got, want)
		}
	}
}
