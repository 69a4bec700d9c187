package syntax

// URI is a URI in the loose sense of Lexicon: a scheme that starts with a
// letter, a colon, and at least one character, none of them white space. At most
// 8192 bytes. Specification: Lexicon, string formats.
type URI string

// ParseURI checks that s is a URI.
func ParseURI(s string) (URI, error) { return URI(s), check("uri", s, checkURI(s)) }

func checkURI(s string) fault {
	if len(s) > 8192 {
		return fault{8192, "longer than 8192 bytes"}
	}
	i := allOf(s, 0, classScheme)
	switch {
	case len(s) > 0 && !isAlpha(s[0]):
		return fault{0, "scheme does not start with a letter"}
	case i > 81:
		return fault{81, "scheme longer than 81 bytes"}
	case i == len(s):
		return fault{i, `":" is missing`}
	case s[i] != ':':
		return fault{i, "illegal character in the scheme"}
	case i+1 == len(s):
		return fault{i + 1, "nothing after the scheme"}
	}
	if i = allOf(s, i+1, classGraphic); i < len(s) {
		return fault{i, "white space or control character"}
	}
	return ok
}

// String returns the URI as a string.
func (u URI) String() string { return string(u) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *URI) UnmarshalText(b []byte) (err error) {
	*u, err = parseInto(ParseURI, b)
	return err
}

// CID is a content identifier in text form. This type checks its alphabet and
// length only, as the Lexicon format does; package go-cid decodes it.
type CID string

// ParseCID checks that s looks like a CID of version 1.
func ParseCID(s string) (CID, error) { return CID(s), check("cid", s, checkCID(s)) }

func checkCID(s string) fault {
	switch {
	case len(s) < 8:
		return fault{len(s), "shorter than 8 bytes"}
	case len(s) > 256:
		return fault{256, "longer than 256 bytes"}
	case s[0] == 'Q' && s[1] == 'm':
		return fault{0, "version 0"}
	}
	i := allOf(s, 0, classAlnum)
	for i < len(s) && (s[i] == '+' || s[i] == '=') {
		i = allOf(s, i+1, classAlnum)
	}
	if i < len(s) {
		return fault{i, "illegal character"}
	}
	return ok
}

// String returns the CID as a string.
func (c CID) String() string { return string(c) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *CID) UnmarshalText(b []byte) (err error) {
	*c, err = parseInto(ParseCID, b)
	return err
}
