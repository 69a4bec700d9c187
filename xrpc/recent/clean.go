package recent

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"
)

// blank stands for what was left out.
const blank = "…"

var (
	// quoted are parts in quotes, also one that has no end.
	quoted = lazy("\"(?:[^\"\\\\]|\\\\.)*(?:\"|\\\\?$)|`[^`]*(?:`|$)|'[^' ]*'")
	// words are what spaces and brackets part.
	words = lazy(`[^\s()\[\]{}<>,;]+`)
	// hostName is a name with a dot whose last part has letters.
	hostName = lazy(`^(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)+[A-Za-z][A-Za-z0-9-]*$`)
	nsid     = lazy(`^(?:com|app|chat|tools|net|org|io|dev)\.[a-z0-9-]+\.[A-Za-z0-9.-]+$`)
)

// randomLength is from how many characters on a word counts as a key, a token or an identifier.
const randomLength = 20

// clean leaves out of a text what may be of a person, or secret. name: the text is the name of a
// method, and keeps its dots.
func (x *Errors) clean(s string, name bool) string {
	if name {
		if nsid().MatchString(s) || !strings.ContainsAny(s, ":@/ ") && !hostName().MatchString(s) {
			return s
		}
		return blank
	}
	s = quoted().ReplaceAllStringFunc(s, func(q string) string { return q[:1] + blank + q[:1] })
	return words().ReplaceAllStringFunc(s, x.word)
}

// word cleans a word.
func (x *Errors) word(w string) string {
	core := strings.TrimRight(w, ":.!?")
	rest := w[len(core):]
	if strings.Contains(core, "=") && !strings.Contains(core, "://") { // key=value
		key, value, _ := strings.Cut(core, "=")
		return x.word(key) + "=" + x.word(value) + rest
	}
	switch {
	case core == "" || core == blank:
		return w
	case strings.Contains(core, "@"):
		return blank + rest
	case strings.Contains(core, "://"):
		return x.address(core) + rest
	case strings.Contains(core, "did:") || strings.Contains(core, "%") || isAddress(core):
		return blank + rest
	case strings.Contains(core, "/"):
		parts := strings.Split(core, "/")
		for i, part := range parts {
			parts[i] = x.part(part)
		}
		return strings.Join(parts, "/") + rest
	}
	return x.part(core) + rest
}

// part cleans a word without slashes.
func (x *Errors) part(s string) string {
	host, port, _ := strings.Cut(s, ":")
	switch {
	case isAddress(s):
		return blank
	case hostName().MatchString(host) && x.known(host):
		return s
	case hostName().MatchString(host) && !isFile(host) && !nsid().MatchString(host):
		if port != "" {
			return blank + ":" + port
		}
		return blank
	case len(s) >= randomLength && !nsid().MatchString(s) && looksRandom(s):
		return blank
	}
	return s
}

// address cleans a URL: the host stays if it is known; what comes after it goes.
func (x *Errors) address(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	host, path, more := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(host, ":")
	if scheme == "at" || !x.known(name) {
		host = blank
	}
	if more && path != "" {
		return scheme + "://" + host + "/" + blank
	}
	return scheme + "://" + host
}

// known reports whether a name may be told.
func (x *Errors) known(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" {
		return true
	}
	for _, h := range x.Hosts {
		if h == "" {
			continue
		}
		if host == strings.ToLower(h) {
			return true
		}
	}
	return false
}

// isAddress reports whether a word is a network address, with or without a port.
func isAddress(s string) bool {
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// files are endings of the names of files, which look like names of hosts.
var files = []string{".sqlite", ".sqlite-wal", ".sqlite-shm", ".json", ".jsonl", ".go", ".tar", ".db", ".blobs", ".tmp", ".log"}

func isFile(s string) bool {
	for _, end := range files {
		if strings.HasSuffix(s, end) {
			return true
		}
	}
	return false
}

// looksRandom reports whether a long word is more than letters of one kind: ordinary words have
// neither digits nor changes of case within.
func looksRandom(s string) bool {
	changes := 0
	for i := 1; i < len(s); i++ {
		if kindOf(s[i-1]) != kindOf(s[i]) {
			changes++
		}
	}
	return changes >= 3 || len(s) >= 64
}

func kindOf(b byte) int {
	switch {
	case b >= 'a' && b <= 'z':
		return 0
	case b >= 'A' && b <= 'Z':
		return 1
	case b >= '0' && b <= '9':
		return 2
	}
	return 3
}

// lazy returns a regular expression that is compiled when it is first needed, not when every program
// starts.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
