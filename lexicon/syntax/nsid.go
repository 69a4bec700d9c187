package syntax

import "strings"

// NSID is a namespaced identifier, such as "app.bsky.feed.post": a domain name in
// reverse order and a name of letters and digits. At least three segments of at most 63
// bytes, 317 bytes in all. Specification: NSID.
type NSID string

// ParseNSID checks that s is an NSID.
func ParseNSID(s string) (NSID, error) { return NSID(s), check("nsid", s, checkNSID(s)) }

func checkNSID(s string) fault {
	if len(s) > 317 {
		return fault{317, "longer than 317 bytes"}
	}
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return fault{len(s), "too few segments"}
	}
	if f := checkDomain(s[:dot], 1, false); f != ok {
		return f
	}
	if strings.IndexByte(s, '.') == dot {
		return fault{len(s), "too few segments"}
	}
	if !isAlpha(s[0]) {
		return fault{0, "first segment does not start with a letter"}
	}
	name := s[dot+1:]
	switch {
	case name == "":
		return fault{len(s), "empty name"}
	case len(name) > 63:
		return fault{dot + 64, "name longer than 63 bytes"}
	case isDigit(name[0]):
		return fault{dot + 1, "name starts with a digit"}
	}
	if i := allOf(s, dot+1, classAlnum); i < len(s) {
		return fault{i, "illegal character in the name"}
	}
	return ok
}

// Name returns the last segment.
func (n NSID) Name() string { return string(n[strings.LastIndexByte(string(n), '.')+1:]) }

// Authority returns the domain name in its usual order: "feed.bsky.app" for
// "app.bsky.feed.post".
func (n NSID) Authority() string {
	segments := strings.Split(string(n), ".")
	segments = segments[:len(segments)-1]
	for i, j := 0, len(segments)-1; i < j; i, j = i+1, j-1 {
		segments[i], segments[j] = segments[j], segments[i]
	}
	return strings.ToLower(strings.Join(segments, "."))
}

// Normalize returns the NSID with its authority in lower case. Names are case-sensitive.
func (n NSID) Normalize() NSID {
	dot := strings.LastIndexByte(string(n), '.')
	return NSID(strings.ToLower(string(n[:dot+1]))) + n[dot+1:]
}

// String returns the NSID as a string.
func (n NSID) String() string { return string(n) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *NSID) UnmarshalText(b []byte) (err error) {
	*n, err = parseInto(ParseNSID, b)
	return err
}

// RecordKey names a record in a collection: 1 to 512 bytes of letters, digits
// and "_~.:-", other than "." and "..". Specification: Record Key.
type RecordKey string

// ParseRecordKey checks that s is a record key.
func ParseRecordKey(s string) (RecordKey, error) {
	return RecordKey(s), check("record-key", s, checkRecordKey(s))
}

func checkRecordKey(s string) fault {
	switch {
	case s == "":
		return fault{0, "empty"}
	case len(s) > 512:
		return fault{512, "longer than 512 bytes"}
	case s == "." || s == "..":
		return fault{0, `"." and ".." are not allowed`}
	}
	if i := allOf(s, 0, classKey); i < len(s) {
		return fault{i, "illegal character"}
	}
	return ok
}

// String returns the record key as a string.
func (k RecordKey) String() string { return string(k) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *RecordKey) UnmarshalText(b []byte) (err error) {
	*k, err = parseInto(ParseRecordKey, b)
	return err
}

// ParsePath splits the path of a record in a repository, "collection/rkey".
func ParsePath(path string) (NSID, RecordKey, error) {
	slash := strings.IndexByte(path, '/')
	if slash < 0 {
		return "", "", check("record path", path, fault{len(path), `"/" is missing`})
	}
	if f := checkNSID(path[:slash]); f != ok {
		return "", "", check("record path", path, f)
	}
	if f := checkRecordKey(path[slash+1:]); f != ok {
		return "", "", check("record path", path, fault{slash + 1 + f.at, f.reason})
	}
	return NSID(path[:slash]), RecordKey(path[slash+1:]), nil
}
