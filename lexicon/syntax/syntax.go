// Package syntax defines the string formats of the Lexicon language as small string types: DIDs,
// handles, NSIDs, record keys, TIDs, AT-URIs, datetimes, language tags and URIs.
//
// A value that a Parse function returns is valid. A conversion such as DID("…") is not checked.
// Parsing examines every byte once, and allocates nothing unless it fails. It never normalises: the
// protocol compares identifiers byte by byte. Normalize methods exist where the specification
// defines a normal form.
//
// See the specifications of DIDs, Handles, NSIDs, Record Keys, TIDs, AT-URIs and of the Lexicon
// string formats.
package syntax

import (
	"fmt"
	"strings"
)

// Error says why a string does not have a format.
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
	if f.reason == "" {
		return nil
	}
	return newError(format, s, f)
}

func newError(format, s string, f fault) error {
	const most = 64
	if len(s) > most {
		s = s[:most]
	}
	return &Error{Format: format, Input: s, Offset: f.at, Reason: f.reason}
}

// Properties of bytes. The table classes has them for every byte, so that a loop over a string
// tests one or several properties with one look-up.
const (
	classLower = 1 << iota // a-z
	classAlpha
	classDigit
	classAlnum
	classLabel   // of a label of a domain name
	classKey     // of record keys
	classDID     // of what follows a DID's method
	classScheme  // of a URI's scheme
	classGraphic // neither white space nor control character
)

var classes = func() (t [256]uint16) {
	for c := range t {
		lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		set := func(class uint16, is bool, others string) {
			if is || c < 0x80 && strings.IndexByte(others, byte(c)) >= 0 {
				t[c] |= class
			}
		}
		alnum := lower || upper || digit
		set(classLower, lower, "")
		set(classAlpha, lower || upper, "")
		set(classDigit, digit, "")
		set(classAlnum, alnum, "")
		set(classLabel, alnum, "-")
		set(classKey, alnum, "_~.:-")
		set(classDID, alnum, "._:%-")
		set(classScheme, alnum, "+-.")
		set(classGraphic, c > ' ' && c != 0x7f, "")
	}
	return t
}()

func isLower(c byte) bool { return classes[c]&classLower != 0 }
func isAlpha(c byte) bool { return classes[c]&classAlpha != 0 }
func isDigit(c byte) bool { return classes[c]&classDigit != 0 }
func isAlnum(c byte) bool { return classes[c]&classAlnum != 0 }

// allOf returns where the first byte of s, from i on, is that is not of the class.
func allOf(s string, i int, class uint16) int {
	for ; i+4 <= len(s); i += 4 {
		if classes[s[i]]&classes[s[i+1]]&classes[s[i+2]]&classes[s[i+3]]&class == 0 {
			break
		}
	}
	for i < len(s) && classes[s[i]]&class != 0 {
		i++
	}
	return i
}
