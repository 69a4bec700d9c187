package syntax

import "strings"

// Handle is a domain name that names an account, such as "alice.example.com".
// At least two labels of at most 63 bytes, 253 bytes in all; the last label
// starts with a letter. Handles are compared in lower case: see Normalize.
// Specification: Handle.
type Handle string

// InvalidHandle is the placeholder for a handle that does not resolve to its account.
const InvalidHandle Handle = "handle.invalid"

// ParseHandle checks that s is a handle. It does not change its case.
func ParseHandle(s string) (Handle, error) { return Handle(s), check("handle", s, checkHandle(s)) }

func checkHandle(s string) fault {
	if len(s) > 253 {
		return fault{253, "longer than 253 bytes"}
	}
	return checkDomain(s, 2, true)
}

// checkDomain checks labels of letters, digits and inner hyphens, separated by
// dots. letterLast demands that the last label starts with a letter.
func checkDomain(s string, labels int, letterLast bool) fault {
	for n, start := 1, 0; ; n++ {
		end := allOf(s, start, classLabel)
		switch {
		case end < len(s) && s[end] != '.':
			return fault{end, "illegal character"}
		case end == start:
			return fault{end, "empty label"}
		case end-start > 63:
			return fault{start + 63, "label longer than 63 bytes"}
		case s[start] == '-':
			return fault{start, "label starts with a hyphen"}
		case s[end-1] == '-':
			return fault{end - 1, "label ends with a hyphen"}
		case end < len(s):
			start = end + 1
			continue
		case n < labels:
			return fault{end, "too few labels"}
		case letterLast && !isAlpha(s[start]):
			return fault{start, "last label does not start with a letter"}
		}
		return ok
	}
}

// Normalize returns the handle in lower case, the form in which handles are
// compared and stored.
func (h Handle) Normalize() Handle { return Handle(strings.ToLower(string(h))) }

// TLD returns the last label in lower case.
func (h Handle) TLD() string {
	return strings.ToLower(string(h[strings.LastIndexByte(string(h), '.')+1:]))
}

// AllowedTLD reports whether the last label may be registered: it is neither reserved nor meant for
// local networks (Handle specification, additional non-syntax restrictions). ".test" is allowed for
// development.
func (h Handle) AllowedTLD() bool {
	switch h.TLD() {
	case "alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion":
		return false
	}
	return true
}

// String returns the handle as a string.
func (h Handle) String() string { return string(h) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Handle) UnmarshalText(b []byte) (err error) {
	*h, err = parseInto(ParseHandle, b)
	return err
}
