// Package syntax has the string formats of the Lexicon language as small string
// types: DIDs, handles, NSIDs, record keys, TIDs, AT-URIs, datetimes, language
// tags and URIs.
//
// A value of one of these types made by its Parse function is valid; a
// conversion such as DID("…") is a promise by whoever writes it. Validation looks at
// every byte once, and allocates nothing unless it fails. Nothing is normalised on the way: what was
// parsed is what comes out, as identifiers are compared byte by byte throughout
// the protocol. Normalize methods exist where the specification defines a
// normal form.
//
// See the specifications of DIDs, Handles, NSIDs, Record Keys, TIDs, AT-URIs and
// of the Lexicon string formats.
package syntax

import "fmt"

// Error says why a string is not of a format.
type Error struct {
	Format string // of the Lexicon language: "did", "handle", …
	Input  string // cut to 64 bytes
	Offset int    // in bytes, of the first fault; the length of the input if something is missing
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("invalid %s %q: %s (at byte %d)", e.Format, e.Input, e.Reason, e.Offset)
}

// fault is what validators return: nil, or where and why.
type fault struct {
	at     int
	reason string
}

var ok fault

// check turns the result of a validator into a Parse function's error.
func check(format, s string, f fault) error {
	if f == ok {
		return nil
	}
	const most = 64
	if len(s) > most {
		s = s[:most]
	}
	return &Error{Format: format, Input: s, Offset: f.at, Reason: f.reason}
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isAlpha(c byte) bool { return isLower(c | 0x20) }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlnum(c byte) bool { return isAlpha(c) || isDigit(c) }

// isLabelByte reports whether c may stand in a label of a domain name.
func isLabelByte(c byte) bool { return isAlnum(c) || c == '-' }
