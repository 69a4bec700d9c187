package mst

import (
	"crypto/sha256"
	"math/bits"
	"unsafe"
)

// HeightForKey returns the height of a key: the number of leading zero bits of
// its SHA-256 hash, in pairs.
func HeightForKey(key string) int {
	d := sha256.Sum256(unsafe.Slice(unsafe.StringData(key), len(key)))
	for i, b := range d {
		if b != 0 {
			return i*4 + bits.LeadingZeros8(b)/2
		}
	}
	return maxHeight
}

// keyBytes marks the characters of keys, other than the one "/".
var keyBytes = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '_' || c == '~' || c == '.' || c == ':' || c == '-'
	}
	return t
}()

// ValidKey returns nil if key may stand in a tree: two non-empty parts of
// letters, digits and "_~.:-", joined by one "/", of at most 1024 bytes in all.
// That the parts are an NSID and a record key is for the layer above to check.
func ValidKey(key string) error {
	if !validKey(key) {
		return &Error{Key: key, Err: ErrInvalidKey}
	}
	return nil
}

func validKey(key string) bool {
	if len(key) > MaxKeyLen {
		return false
	}
	slash := -1
	for i := range len(key) {
		if keyBytes[key[i]] {
			continue
		}
		if key[i] != '/' || slash >= 0 {
			return false
		}
		slash = i
	}
	return slash > 0 && slash < len(key)-1
}

// commonPrefix is the length of the longest common prefix.
func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
