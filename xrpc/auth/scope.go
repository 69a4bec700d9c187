package auth

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// ErrInvalidScope is wrapped by all errors of ParseScope.
var ErrInvalidScope = errors.New("auth: invalid scope")

// maxScope is the length in bytes of the longest scope that is parsed.
const maxScope = 16 << 10

// The scopes without parameters.
const (
	Atproto           = "atproto"            // demanded of every session
	TransitionGeneric = "transition:generic" // as an app password, without chat
	TransitionChat    = "transition:chat.bsky"
	TransitionEmail   = "transition:email"
)

var literals = []string{Atproto, TransitionGeneric, TransitionChat, TransitionEmail}

// Scope is one OAuth scope, in normal form. The zero value grants nothing. Equivalent scopes have
// the same String.
type Scope struct {
	resource string   // or the whole scope, for one without parameters
	values   []string // collections, methods, MIME types, or the one attribute or set
	actions  []string // of repo: a selection in the order of recordActions; of account: one
	audience string   // of rpc and include
}

// form describes the scopes of one resource.
type form struct {
	values string // name of the parameter that may be positional
	many   bool   // it may be repeated
	check  func(value string) bool
	other  string // name of the other parameter
	needed bool   // the other one must be there
	choice []string
}

var forms = map[string]form{
	repoResource:     {values: "collection", many: true, check: isNSIDOrAny, other: "action", choice: recordActions},
	RPC:              {values: "lxm", many: true, check: isNSIDOrAny, other: "aud", needed: true},
	blobResource:     {values: "accept", many: true, check: isAccept},
	accountResource:  {values: "attr", check: isOneOf("email", "repo", "status"), other: "action", choice: []string{"read", "manage"}},
	identityResource: {values: "attr", check: isOneOf("handle", "*")},
	includeResource:  {values: "nsid", check: isNSID, other: "aud"},
}

const includeResource = "include"

// ParseScope parses one scope, such as "repo:com.example.note?action=create". Its errors wrap
// ErrInvalidScope.
func ParseScope(text string) (Scope, error) {
	s, err := parseScope(text)
	if err != nil {
		return Scope{}, fmt.Errorf("%w: %.100q: %w", ErrInvalidScope, text, err)
	}
	return s, nil
}

func parseScope(text string) (s Scope, err error) {
	if len(text) > maxScope {
		return s, fmt.Errorf("longer than %d bytes", maxScope)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return s, fmt.Errorf("the character %q", c)
		}
	}
	if slices.Contains(literals, text) {
		return Scope{resource: text}, nil
	}
	head, query, hasQuery := strings.Cut(text, "?")
	resource, positional, hasPositional := strings.Cut(head, ":")
	f, ok := forms[resource]
	if !ok {
		return s, errors.New("an unknown resource")
	}
	s.resource = resource
	params, err := parameters(query, f.values, f.other)
	if err != nil {
		return s, err
	}
	if hasQuery && len(params) == 0 {
		return s, errors.New("no parameters after the question mark")
	}
	s.values = params[f.values]
	if hasPositional {
		if s.values != nil {
			return s, fmt.Errorf("%s twice, by position and by name", f.values)
		}
		value, err := url.PathUnescape(positional)
		if err != nil {
			return s, err
		}
		s.values = []string{value}
	}
	switch {
	case len(s.values) == 0:
		return s, fmt.Errorf("no %s", f.values)
	case len(s.values) > 1 && !f.many:
		return s, fmt.Errorf("several of %s", f.values)
	}
	for _, v := range s.values {
		if !f.check(v) {
			return s, fmt.Errorf("%s cannot be %.100q", f.values, v)
		}
	}
	return s.finish(f, params[f.other])
}

// finish takes the values of the other parameter, and brings the scope into its normal form.
func (s Scope) finish(f form, other []string) (Scope, error) {
	if f.needed && len(other) == 0 {
		return s, fmt.Errorf("no %s", f.other)
	}
	switch s.resource {
	case repoResource:
		for _, a := range other {
			if !slices.Contains(f.choice, a) {
				return s, fmt.Errorf("unknown action %.100q", a)
			}
		}
		for _, a := range f.choice {
			if len(other) == 0 || slices.Contains(other, a) {
				s.actions = append(s.actions, a)
			}
		}
	case accountResource:
		if len(other) > 1 || len(other) == 1 && !slices.Contains(f.choice, other[0]) {
			return s, fmt.Errorf("action must be one of %s", strings.Join(f.choice, ", "))
		}
		s.actions = []string{"read"}
		if len(other) == 1 {
			s.actions = other
		}
	case RPC, includeResource:
		if len(other) > 1 {
			return s, errors.New("several audiences")
		}
		if len(other) == 1 {
			s.audience = other[0]
			if !isService(s.audience) && (s.audience != "*" || s.resource == includeResource) {
				return s, errors.New("the audience must be a DID with a fragment that names a service")
			}
		}
	}
	s.values = normalValues(s.resource, s.values)
	if s.resource == RPC && s.values[0] == "*" && s.audience == "*" {
		return s, errors.New("all methods of all services")
	}
	return s, nil
}

// normalValues sorts values and drops what others of them cover.
func normalValues(resource string, values []string) []string {
	values = slices.Clone(values)
	if resource == blobResource {
		for i, v := range values {
			values[i] = strings.ToLower(v)
		}
	}
	slices.Sort(values)
	values = slices.Compact(values)
	switch {
	case resource == blobResource:
		return slices.DeleteFunc(values, func(v string) bool {
			return slices.ContainsFunc(values, func(w string) bool { return v != w && accepts(w, v) })
		})
	case len(values) > 1 && values[0] == "*":
		return values[:1]
	}
	return values
}

// parameters parses a query of known names. Names and values are decoded.
func parameters(query string, known ...string) (map[string][]string, error) {
	params := make(map[string][]string)
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, err
		}
		if name == "" || !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown parameter %.100q", name)
		}
		params[name] = append(params[name], value)
	}
	return params, nil
}

// String returns the scope in normal form: values are sorted, values that others cover are left
// out, and as little as possible is escaped.
func (s Scope) String() string {
	f, ok := forms[s.resource]
	if !ok {
		return s.resource
	}
	var b strings.Builder
	b.WriteString(s.resource)
	sep := byte('?')
	add := func(name, value string) {
		b.WriteByte(sep)
		b.WriteString(name + "=")
		escape(&b, value, true)
		sep = '&'
	}
	if len(s.values) == 1 {
		b.WriteByte(':')
		escape(&b, s.values[0], false)
	} else {
		for _, v := range s.values {
			add(f.values, v)
		}
	}
	switch {
	case s.audience != "":
		add(f.other, s.audience)
	case s.resource == repoResource && len(s.actions) < len(recordActions),
		s.resource == accountResource && s.actions[0] != "read":
		for _, a := range s.actions {
			add(f.other, a)
		}
	}
	return b.String()
}

// escape writes a value with what has a meaning in a scope, or must not stand there, as %XX.
func escape(b *strings.Builder, value string, query bool) {
	special := `%#"\?`
	if query {
		special = `%#"\&=+`
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(special, c) >= 0 {
			fmt.Fprintf(b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
}

// Include returns the permission set that an "include:" scope names, and its audience, the service
// for which it was included, which may be empty.
func (s Scope) Include() (set syntax.NSID, audience string, ok bool) {
	if s.resource != includeResource {
		return "", "", false
	}
	return syntax.NSID(s.values[0]), s.audience, true
}

// Equal reports whether two scopes are equivalent.
func (s Scope) Equal(t Scope) bool { return s.String() == t.String() }

// Allows reports whether the scope grants a permission.
func (s Scope) Allows(want Permission) bool {
	switch s.resource {
	case TransitionGeneric:
		switch want.Resource {
		case repoResource, blobResource:
			return true
		case RPC:
			return !isChat(want.Action)
		}
		return false
	case TransitionChat:
		return want.Resource == RPC && isChat(want.Action)
	case TransitionEmail:
		return want == ReadEmail
	}
	if s.resource != want.Resource {
		return false
	}
	switch s.resource {
	case repoResource:
		return slices.Contains(s.actions, want.Action) && s.has(want.Target)
	case RPC:
		return s.has(want.Action) && (s.audience == "*" || s.audience == want.Target)
	case blobResource:
		return slices.ContainsFunc(s.values, func(v string) bool { return accepts(v, want.Target) })
	case accountResource:
		return s.values[0] == want.Target && (s.actions[0] == want.Action || s.actions[0] == "manage" && want.Action == "read")
	case identityResource:
		return s.has(want.Target)
	}
	return false
}

// has reports whether a value is among those of the scope, or all are.
func (s Scope) has(value string) bool {
	return s.values[0] == "*" || slices.Contains(s.values, value)
}

// isChat reports whether a method is one of direct messages, in whatever case.
func isChat(method string) bool {
	const prefix = "chat.bsky."
	return len(method) >= len(prefix) && strings.EqualFold(method[:len(prefix)], prefix)
}

func isNSID(s string) bool {
	_, err := syntax.ParseNSID(s)
	return err == nil
}

func isNSIDOrAny(s string) bool { return s == "*" || isNSID(s) }

func isOneOf(list ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(list, s) }
}

// isService reports whether s is a DID with a fragment, of a method that accounts and services use.
func isService(s string) bool {
	id, fragment, _ := strings.Cut(s, "#")
	did, err := syntax.ParseDID(id)
	if err != nil || fragment == "" || len(fragment) > 256 {
		return false
	}
	for i := range len(fragment) {
		if c := fragment[i]; !isTokenChar(c) {
			return false
		}
	}
	return did.Method() == "plc" || did.Method() == "web"
}

// isAccept reports whether s is a MIME type, "type/*" or "*/*".
func isAccept(s string) bool {
	kind, sub, ok := strings.Cut(s, "/")
	if !ok {
		return false
	}
	if kind == "*" {
		return sub == "*"
	}
	return isToken(kind) && (sub == "*" || isToken(sub))
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenChar(s[i]) || s[i] == '*' {
			return false
		}
	}
	return s != ""
}

// isTokenChar reports whether c may stand in a token of HTTP, save for the number sign.
func isTokenChar(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		strings.IndexByte("!$%&'*+-.^_`|~", c) >= 0
}

// accepts reports whether a pattern ("*/*", "type/*" or a type) covers a type or a narrower pattern.
func accepts(pattern, mime string) bool {
	if pattern == "*/*" {
		return strings.Contains(mime, "/")
	}
	if kind, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(mime, kind) && len(mime) > len(kind)
	}
	return pattern == mime
}
