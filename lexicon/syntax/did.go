package syntax

import "strings"

// DID is a decentralised identifier, such as "did:plc:ewvi7nxzyoun6zhxrhs64oiz".
// At most 2048 bytes, of any method. Specification: DID.
type DID string

// ParseDID checks that s is a DID.
func ParseDID(s string) (DID, error) { return DID(s), check("did", s, checkDID(s)) }

func checkDID(s string) fault {
	if len(s) > 2048 {
		return fault{2048, "longer than 2048 bytes"}
	}
	if !strings.HasPrefix(s, "did:") {
		return fault{0, `does not start with "did:"`}
	}
	i := allOf(s, len("did:"), classLower)
	if i == len("did:") {
		return fault{i, "method must be lower-case letters"}
	}
	if i == len(s) || s[i] != ':' {
		return fault{i, `":" expected after the method`}
	}
	start := i + 1
	if i = allOf(s, start, classDID); i < len(s) {
		return fault{i, "illegal character"}
	}
	if i == start {
		return fault{i, "nothing after the method"}
	}
	if c := s[len(s)-1]; c == ':' || c == '%' {
		return fault{len(s) - 1, `must not end with ":" or "%"`}
	}
	return ok
}

// Method returns the method's name, such as "plc".
func (d DID) Method() string {
	rest, _ := strings.CutPrefix(string(d), "did:")
	method, _, _ := strings.Cut(rest, ":")
	return method
}

// Identifier returns what follows the method.
func (d DID) Identifier() string {
	rest, _ := strings.CutPrefix(string(d), "did:")
	_, id, _ := strings.Cut(rest, ":")
	return id
}

// String returns the DID as a string.
func (d DID) String() string { return string(d) }

// UnmarshalText implements encoding.TextUnmarshaler; it accepts valid DIDs only.
func (d *DID) UnmarshalText(b []byte) (err error) {
	*d, err = parseInto(ParseDID, b)
	return err
}

// parseInto runs a Parse function for UnmarshalText. An empty text gives the zero
// value, so that optional fields may be empty.
func parseInto[T ~string](parse func(string) (T, error), b []byte) (T, error) {
	if len(b) == 0 {
		return "", nil
	}
	v, err := parse(string(b))
	if err != nil {
		return "", err
	}
	return v, nil
}

// AtIdentifier is a DID or a handle.
type AtIdentifier string

// ParseAtIdentifier checks that s is a DID or a handle.
func ParseAtIdentifier(s string) (AtIdentifier, error) {
	return AtIdentifier(s), check("at-identifier", s, checkAtIdentifier(s))
}

func checkAtIdentifier(s string) fault {
	if strings.HasPrefix(s, "did:") {
		return checkDID(s)
	}
	return checkHandle(s)
}

// DID returns the identifier as a DID if it is one.
func (a AtIdentifier) DID() (DID, bool) { return DID(a), strings.HasPrefix(string(a), "did:") }

// Handle returns the identifier as a handle if it is one.
func (a AtIdentifier) Handle() (Handle, bool) {
	return Handle(a), !strings.HasPrefix(string(a), "did:")
}

// Normalize returns a handle in lower case. DIDs are case-sensitive.
func (a AtIdentifier) Normalize() AtIdentifier {
	if h, ok := a.Handle(); ok {
		return AtIdentifier(h.Normalize())
	}
	return a
}

// String returns the identifier as a string.
func (a AtIdentifier) String() string { return string(a) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *AtIdentifier) UnmarshalText(b []byte) (err error) {
	*a, err = parseInto(ParseAtIdentifier, b)
	return err
}
