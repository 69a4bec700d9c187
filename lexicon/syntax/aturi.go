package syntax

import "strings"

// ATURI is a URI of the "at" scheme: at://AUTHORITY[/COLLECTION[/RKEY]], in the
// restricted form that Lexicon allows. At most 8192 bytes. Specification: AT URI.
type ATURI string

// ParseATURI checks that s is an AT-URI.
func ParseATURI(s string) (ATURI, error) { return ATURI(s), check("at-uri", s, checkATURI(s)) }

const atScheme = "at://"

func checkATURI(s string) fault {
	if len(s) > 8192 {
		return fault{8192, "longer than 8192 bytes"}
	}
	if !strings.HasPrefix(s, atScheme) {
		return fault{0, `does not start with "at://"`}
	}
	rest, at := s[len(atScheme):], len(atScheme)
	authority, path, more := strings.Cut(rest, "/")
	if f := checkAtIdentifier(authority); f != ok {
		return fault{at + f.at, f.reason}
	}
	if !more {
		return ok
	}
	at += len(authority) + 1
	collection, rkey, more := strings.Cut(path, "/")
	if f := checkNSID(collection); f != ok {
		return fault{at + f.at, f.reason}
	}
	if !more {
		return ok
	}
	at += len(collection) + 1
	if f := checkRecordKey(rkey); f != ok {
		return fault{at + f.at, f.reason}
	}
	return ok
}

// Authority returns the DID or handle of a URI.
func (u ATURI) Authority() AtIdentifier {
	authority, _ := u.split()
	return AtIdentifier(authority)
}

// Collection returns the collection of a URI, or "".
func (u ATURI) Collection() NSID {
	_, path := u.split()
	collection, _, _ := strings.Cut(path, "/")
	return NSID(collection)
}

// RecordKey returns the record key of a URI, or "".
func (u ATURI) RecordKey() RecordKey {
	_, path := u.split()
	_, rkey, _ := strings.Cut(path, "/")
	return RecordKey(rkey)
}

func (u ATURI) split() (authority, path string) {
	rest, _ := strings.CutPrefix(string(u), atScheme)
	authority, path, _ = strings.Cut(rest, "/")
	return authority, path
}

// Normalize returns the URI with its handle, and the authority of its collection, in lower case.
func (u ATURI) Normalize() ATURI {
	authority, path := u.split()
	norm := atScheme + string(AtIdentifier(authority).Normalize())
	if path == "" {
		return ATURI(norm)
	}
	collection, rkey, more := strings.Cut(path, "/")
	norm += "/" + string(NSID(collection).Normalize())
	if more {
		norm += "/" + rkey
	}
	return ATURI(norm)
}

// String returns the URI as a string.
func (u ATURI) String() string { return string(u) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *ATURI) UnmarshalText(b []byte) (err error) {
	*u, err = parseInto(ParseATURI, b)
	return err
}
