package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/update"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// reader reads variables and collects what is wrong with them.
type reader struct {
	env      map[string]string
	known    map[string]bool // asked for
	problems []error
	warnings []string
}

func (r *reader) wrong(name, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

func (r *reader) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// get returns a variable; one that is empty counts as not set.
func (r *reader) get(name string) string {
	r.known[name] = true
	return strings.TrimSpace(r.env[name])
}

func (r *reader) set(name string) bool { return r.get(name) != "" }

func (r *reader) text(name, fallback string) string {
	if v := r.get(name); v != "" {
		return v
	}
	return fallback
}

func (r *reader) integer(name string, fallback, least, most int) int {
	v := r.get(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		r.wrong(name, "%q is not a number from %d to %d", v, least, most)
	}
	return n
}

// size reads a number of bytes.
func (r *reader) size(name string, fallback int64) int64 {
	v := r.get(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 || n > 1<<40 {
		r.wrong(name, "%q is not a number of bytes from 1 to %d", v, int64(1)<<40)
	}
	return n
}

// millis reads a duration in milliseconds.
func (r *reader) millis(name string, fallback time.Duration) time.Duration {
	v := r.get(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > 1<<42 {
		r.wrong(name, "%q is not a number of milliseconds", v)
		return fallback
	}
	return time.Duration(n) * time.Millisecond
}

func (r *reader) boolean(name string, fallback bool) bool {
	switch v := strings.ToLower(r.get(name)); v {
	case "":
		return fallback
	case "1", "true", "yes", "on":
		return true
	case "0", "false", "no", "off":
		return false
	default:
		r.wrong(name, "%q is neither true nor false", v)
		return fallback
	}
}

// url reads the address of a service, without a slash at its end.
func (r *reader) url(name string) string {
	v := r.get(name)
	if v != "" {
		r.checkURL(name, v)
	}
	return strings.TrimSuffix(v, "/")
}

func (r *reader) checkURL(name, v string) {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		r.wrong(name, "%q is not an http or https URL", v)
	}
}

// updates is the list of releases to ask; empty: none.
func (r *reader) updates() string {
	const name = "PDS_UPDATE_CHECK"
	if v := r.get(name); strings.Contains(v, "://") {
		r.checkURL(name, v)
		return v
	}
	if r.boolean(name, false) {
		return update.Feed
	}
	return ""
}

// colour is one that pages can compute with.
func (r *reader) colour(name string) string {
	v := r.get(name)
	if _, err := strconv.ParseUint(strings.TrimPrefix(v, "#"), 16, 32); v != "" && (err != nil || len(v) != 7 || v[0] != '#') {
		r.warn("%s has no effect: it must be as #1d4ed8, not %q", name, v)
		return ""
	}
	return v
}

// list reads what stands between commas.
func (r *reader) list(name string) (items []string) {
	for item := range strings.SplitSeq(r.get(name), ",") {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	return items
}

func (r *reader) urls(name string) []string {
	items := r.list(name)
	for i, v := range items {
		r.checkURL(name, v)
		items[i] = strings.TrimSuffix(v, "/")
	}
	return items
}

// networks reads addresses and networks.
func (r *reader) networks(name string) (networks []netip.Prefix) {
	for _, v := range r.list(name) {
		if p, err := netip.ParsePrefix(v); err == nil {
			networks = append(networks, p.Masked())
		} else if a, err := netip.ParseAddr(v); err == nil {
			a = a.Unmap()
			networks = append(networks, netip.PrefixFrom(a, a.BitLen()))
		} else {
			r.wrong(name, "%q is neither an IP address nor a network like 10.0.0.0/8", v)
		}
	}
	return networks
}

// address reads what to listen on.
func (r *reader) address(name string) string {
	v := r.get(name)
	if v == "" {
		return ""
	}
	if _, port, err := net.SplitHostPort(v); err != nil {
		r.wrong(name, "%q is not an address with a port, like 127.0.0.1:2590", v)
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		r.wrong(name, "%q is not a port", port)
	}
	return v
}

func (r *reader) did(name string) syntax.DID {
	v := r.get(name)
	if v == "" {
		return ""
	}
	did, err := syntax.ParseDID(v)
	if err != nil {
		r.wrong(name, "%v", err)
	}
	return did
}

// service reads the address and the DID of another server: both or neither.
func (r *reader) service(prefix string) Service {
	s := Service{r.url(prefix + "_URL"), r.did(prefix + "_DID")}
	switch {
	case s.URL != "" && s.DID == "" && !r.set(prefix+"_DID"):
		r.wrong(prefix+"_DID", "needed with %s_URL", prefix)
	case s.URL == "" && s.DID != "":
		r.wrong(prefix+"_URL", "needed with %s_DID", prefix)
	}
	return s
}

// keys reads private keys. Their text is not repeated.
func (r *reader) keys(name string) []string {
	keys := r.list(name)
	for _, v := range keys {
		if _, err := parseKey(v); err != nil {
			r.wrong(name, "not a K-256 private key in hexadecimal")
		}
	}
	return keys
}

// masterKeys reads keys of 32 bytes. Their text is not repeated.
func (r *reader) masterKeys(name string) []string {
	keys := r.list(name)
	for _, v := range keys {
		if raw, err := hex.DecodeString(v); err != nil || len(raw) != 32 {
			r.wrong(name, "not a key of 32 bytes in hexadecimal")
		}
	}
	return keys
}

// smtp reads the URL of a mail server. It may have a password in it, so it is not
// repeated.
func (r *reader) smtp(name string) string {
	v := r.get(name)
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	switch {
	case err != nil:
		r.wrong(name, "not a URL; special characters of the password must be written as %%XX")
	case u.Scheme != "smtp" && u.Scheme != "smtps":
		r.wrong(name, "the scheme must be smtp or smtps")
	case u.Host == "" && u.Query().Get("sendmail") != "true":
		r.wrong(name, "no host")
	}
	return v
}

// sender reads an e-mail address, with or without a name.
func (r *reader) sender(name string) string {
	v := r.get(name)
	if v == "" {
		return ""
	}
	if _, err := mail.ParseAddress(v); err != nil {
		r.wrong(name, "%q is not an e-mail address", v)
	}
	return v
}

func (r *reader) domains(name, fallback string) []string {
	items := r.list(name)
	if items == nil {
		items = []string{fallback}
	}
	var list []string
	for _, d := range items {
		d = strings.ToLower(d)
		if _, err := syntax.ParseHandle("x" + d); err != nil || !strings.HasPrefix(d, ".") {
			if r.set(name) { // else the host name is wrong, and that is said already
				r.wrong(name, "%q is not a domain with a leading dot", d)
			}
			continue
		}
		if !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}
