// Package dag turns bytes into the content identifiers (CIDs) that the AT Protocol uses, and back
// into bare digests.
//
// The protocol allows one form of CID: version 1, SHA-256 with 32 bytes of digest, and the codec
// dag-cbor (records, commits, tree nodes) or raw (blobs). Its binary form is always 36 bytes long:
// a 4-byte prefix and the digest. Building it directly costs one hash and one 36-byte string, with
// none of the parsing and registry look-ups of the general interface; Wrap costs nothing.
package dag

import (
	"crypto/sha256"
	"encoding/base32"
	"unsafe"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"github.com/pdskit/pdskit/internal/blockhash"
)

// Codec is the multicodec byte of a CID.
type Codec byte

// The two codecs of the data model.
const (
	CBOR Codec = cid.DagCBOR
	Raw  Codec = cid.Raw
)

// CIDLen is the length in bytes of a binary CID of the data model.
const CIDLen = 4 + sha256.Size

// Digest is a SHA-256 digest.
type Digest = [sha256.Size]byte

// AppendCID appends the binary form of the CID of codec and digest.
func AppendCID(b []byte, codec Codec, digest *Digest) []byte {
	b = append(b, 1, byte(codec), mh.SHA2_256, sha256.Size)
	return append(b, digest[:]...)
}

// Base32 spells CIDs, and DIDs of the PLC directory: RFC 4648 in lower case, without padding.
var Base32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// AppendText appends the text form of a CID of version 1, given in binary.
func AppendText[S string | []byte](b []byte, cid S) []byte {
	var buf [CIDLen]byte
	return Base32.AppendEncode(append(b, 'b'), append(buf[:0], cid...))
}

// CID returns the CID of codec and digest.
func CID(codec Codec, digest *Digest) cid.Cid {
	var buf [CIDLen]byte
	return Wrap(string(AppendCID(buf[:0], codec, digest)))
}

// Wrap returns the CID whose binary form is s, which must be what AppendCID
// appends. It neither looks at the bytes nor copies them.
//
// A cid.Cid is a struct of one string, its binary form. Package go-cid has no
// function that makes one without parsing and copying, which would cost more than the
// rest of a step through a tree. The line below does not compile if the struct changes, and
// this package's tests check what it holds.
func Wrap(s string) cid.Cid { return *(*cid.Cid)(unsafe.Pointer(&s)) }

var _ [0]struct{} = [unsafe.Sizeof(cid.Cid{}) - unsafe.Sizeof("")]struct{}{}

// Sum hashes data and returns its CID.
func Sum(codec Codec, data []byte) cid.Cid {
	d := blockhash.Sum(data)
	return CID(codec, &d)
}

// Split returns the codec and digest of c. It reports false if c is not of the
// blessed shape (CIDv1, SHA-256, dag-cbor or raw).
func Split(c cid.Cid) (codec Codec, digest Digest, ok bool) {
	return SplitBytes(c.KeyString())
}

// SplitBytes is Split for the binary form of a CID, as a string or a slice.
func SplitBytes[T string | []byte](b T) (codec Codec, digest Digest, ok bool) {
	if len(b) != CIDLen || b[0] != 1 || b[2] != mh.SHA2_256 || b[3] != sha256.Size {
		return 0, digest, false
	}
	codec = Codec(b[1])
	if codec != CBOR && codec != Raw {
		return 0, digest, false
	}
	copy(digest[:], b[4:])
	return codec, digest, true
}

// Matches reports whether data hashes to c, which must be of the blessed shape.
func Matches(c cid.Cid, data []byte) bool {
	_, want, ok := Split(c)
	return ok && blockhash.Sum(data) == want
}
