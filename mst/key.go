package mst

import (
	"encoding/binary"
	"math/bits"
)

// Classes of bytes in keys.
const (
	badByte = iota
	keyByte
	slash
)

var byteClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '~' || c == '.' || c == ':' || c == '-':
			t[c] = keyByte
		case c == '/':
			t[c] = slash
		}
	}
	return t
}()

// ValidKey returns nil if a tree may contain key: two non-empty parts of letters, digits and
// "_~.:-", joined by one "/", of at most 1024 bytes in all. It does not check that the parts are an
// NSID and a record key.
func ValidKey(key string) error {
	if !validKey(key) {
		return &Error{Key: key, Err: ErrInvalidKey}
	}
	return nil
}

func validKey(key string) bool {
	slash, ok := validSuffix(key, 0, 0)
	return ok && validParts(len(key), slash)
}

// validSuffix checks the bytes of a key that follow a prefix of a valid one, and
// returns the place of the slash. That of the valid key is given; 0 means none.
func validSuffix(suffix string, prefix, slashAt int) (int, bool) {
	if slashAt >= prefix {
		slashAt = 0
	}
	for i := range len(suffix) {
		switch byteClass[suffix[i]] {
		case keyByte:
		case slash:
			if slashAt > 0 || prefix+i == 0 {
				return 0, false
			}
			slashAt = prefix + i
		default:
			return 0, false
		}
	}
	return slashAt, true
}

// validParts checks the lengths of a key and its parts.
func validParts(n, slashAt int) bool {
	return slashAt > 0 && slashAt < n-1 && n <= MaxKeyLen
}

// commonPrefix is the length of the longest common prefix.
func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		x := binary.LittleEndian.Uint64(bytesOf(a[i:i+8])) ^ binary.LittleEndian.Uint64(bytesOf(b[i:i+8]))
		if x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}
